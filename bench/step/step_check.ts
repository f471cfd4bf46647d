/**
 * The regression gate of `bench step --check`: this run beside the one whose figures are committed, each measured against its
 * own peer, so that a slow machine is no regression and a fast one hides none.
 *
 * @module
 */

/** What is compared, by precision. Times are in the peer's steps, which are of the same run. */
export interface StepFigures {
  /** Which peer: figures beside different ones are not compared. */
  readonly peer: string;
  readonly adapter: string;
  readonly precisions: Readonly<Record<string, PrecisionFigures>>;
}

/** One precision's part. */
export interface PrecisionFigures {
  /** Tokens a second, as a share of the peer's. */
  readonly ratio: number;
  /** Each kernel's time in a step over the time of the peer's step. */
  readonly kernels: Readonly<Record<string, number>>;
}

/** A step may be this much slower than the committed one: medians of quiet runs differ by less. */
export const TOLERATED = 0.12;

/** A kernel is named where its time grew by this share of the whole step, which is more than single kernels wander. */
const NAMED = 0.02;

/** What the gate says. */
export interface CheckResult {
  readonly passed: boolean;
  /** For people, one line each. */
  readonly lines: readonly string[];
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** Compares this run with the committed one. */
export function checkStep(committed: StepFigures, now: StepFigures): CheckResult {
  if (committed.peer !== now.peer || committed.adapter !== now.adapter) {
    const lines = [
      `The committed figures are of ${committed.adapter} beside ${committed.peer}, these of ${now.adapter} beside ` +
      `${now.peer}: they say nothing about each other. Measure on that machine, or commit figures of this one.`,
    ];
    return { passed: false, lines };
  }
  const lines: string[] = [];
  let passed = true;
  for (const [precision, before] of Object.entries(committed.precisions)) {
    const after = now.precisions[precision];
    if (after === undefined) {
      passed = false;
      lines.push(`${precision}: the committed figures have it, this run has not`);
      continue;
    }
    const change = after.ratio / before.ratio - 1;
    const said = `${precision}: ${after.ratio.toFixed(3)} of ${now.peer}, committed ${
      before.ratio.toFixed(3)
    } (${change < 0 ? "" : "+"}${percent(change)})`;
    if (change >= -TOLERATED) {
      lines.push(said);
      continue;
    }
    passed = false;
    lines.push(`${said}: slower by more than ${percent(TOLERATED)}`);
    const slower = slowerKernels(before, after);
    if (slower.length === 0) {
      lines.push("  no kernel by itself: what is between them (recording, reads, waits)");
    }
    lines.push(...slower.map((line) => `  ${line}`));
  }
  return { passed, lines };
}

/** The kernels whose share of the committed step grew most, worst first. */
function slowerKernels(before: PrecisionFigures, after: PrecisionFigures): string[] {
  const step = Object.values(before.kernels).reduce((sum, time) => sum + time, 0);
  return Object.entries(after.kernels)
    .map(([name, time]) => ({ name, time, was: before.kernels[name] }))
    .map((entry) => ({ ...entry, growth: (entry.time - (entry.was ?? 0)) / step }))
    .filter(({ growth }) => growth >= NAMED)
    .sort((a, b) => b.growth - a.growth)
    .map(({ name, time, was, growth }) =>
      was === undefined
        ? `${name}: new, ${percent(growth)} of the committed step`
        : `${name}: ${(time / was).toFixed(2)} x as long, ${percent(growth)} of the committed step`
    );
}
