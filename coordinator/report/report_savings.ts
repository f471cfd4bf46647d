/**
 * What a run saved, out of its report: against a run from scratch, or against the stated extrapolation.
 *
 * @module
 */
import type { SavingsReport } from "./report_data.ts";
import type { PhaseSummary, ReportData, ValidationPoint } from "./report_data.ts";
import { extrapolated, type Leg, savings } from "./savings.ts";

/** Measured rates of a run's phases as legs. */
function legsOf(phases: readonly PhaseSummary[]): Leg[] {
  return phases.map((phase) => ({
    name: `phase ${phase.phase + 1}`,
    devices: phase.workers,
    speed: phase.workers > 0 ? phase.speed / phase.workers : 0,
    tokens: phase.tokens,
    tokensPerDay: phase.tokens / (phase.seconds / 86_400),
  }));
}

/** The factors of a run, against another one or the extrapolation; null where there is nothing to compare. */
export function savingsOf(
  data: Pick<ReportData, "phases" | "validations" | "switches" | "total">,
  against: ReportData | undefined,
): SavingsReport | null {
  const legs = legsOf(data.phases);
  if (legs.length === 0) return null;
  if (against === undefined) {
    if (data.switches.length === 0) return null;
    const last = data.phases[data.phases.length - 1], scratch = extrapolated(legs);
    return {
      ...savings(legs, scratch),
      against: "extrapolated",
      arithmetic: last.flops / last.tokens * data.total.tokens / data.total.flops,
      notes: [
        "No run from scratch was made. As in the paper's Table 6, it is assumed to need as many tokens as all phases " +
        "together, at the measured rate and on the workers of the last phase: a statement about cost, not about loss.",
        ...(data.phases[0].phase > 0 ? ["Training before this run is not counted."] : []),
      ],
    };
  }
  const target = data.validations.at(-1)?.nll ?? null;
  const reached = target === null ? undefined : reaches(against.validations, target);
  const share = reached === undefined ? 1 : reached.tokens / against.total.tokens;
  const flops = reached?.flops ?? against.total.flops;
  const scratch = legsOf(against.phases).map((leg) => ({ ...leg, tokens: leg.tokens * share }));
  return {
    ...savings(legs, scratch),
    against: "measured",
    arithmetic: flops / data.total.flops,
    notes: [
      target === null
        ? "The run has no validation, so the whole run from scratch is compared with it."
        : reached === undefined
        ? `The run from scratch (${against.name}) never reached this run's last validation loss of ` +
          `${target.toFixed(4)}: all of it counts, and the factors are lower bounds.`
        : `What the run from scratch (${against.name}) took to reach this run's last validation loss of ` +
          `${target.toFixed(4)}, between its own validations in a straight line.`,
    ],
  };
}

/** Where a curve of validations first falls to a loss. */
export function reaches(
  points: readonly ValidationPoint[],
  loss: number,
): { readonly tokens: number; readonly flops: number; readonly seconds: number } | undefined {
  for (const [i, point] of points.entries()) {
    if (point.nll === null || point.nll > loss) continue;
    const before = points[i - 1];
    if (before?.nll == null) return point;
    const share = (before.nll - loss) / (before.nll - point.nll);
    const between = (a: number, b: number) => a + share * (b - a);
    return {
      tokens: between(before.tokens, point.tokens),
      flops: between(before.flops, point.flops),
      seconds: between(before.seconds, point.seconds),
    };
  }
  return undefined;
}
