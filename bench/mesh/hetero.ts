/**
 * What is the planner's split worth on unequal workers, and how right are its predictions? Real workers train twelve layers
 * in eight microbatches. Wanted: 0.6 of the even split's step, predictions within 15 % (20 % between kinds). --steps=N:
 * steps that count; --only: one of the two parts.
 *
 * Shares: three of one machine's devices, of which all, a half and a quarter of the time are lent. Once the coordinator is
 * told the shares, once it is not and divides the layers evenly. The told mesh makes short runs first: from their steps the
 * coordinator learns what a measurement at the join cannot show, and the run behind them is predicted with that.
 *
 * Kinds: SwiftShader beside the machine's own adapter, each in a process of its own; skipped where no SwiftShader is
 * installed (Debian's package chromium brings it).
 *
 * @module
 */
import { quantity, table } from "../../coordinator/amounts.ts";
import type { BenchFlags, BenchOptions, Output } from "../harness/bench.ts";
import { findSwiftShader, kindsRuns } from "./hetero_kinds.ts";
import { LAYERS, type Ran, sharedRuns, WARM } from "./hetero_runs.ts";
import { withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "unequal workers: the planner's split beside an even one, predicted and measured";

const SHARES = [1, 0.5, 0.25];
/** Steps that count unless told, and those of the runs that teach. */
const STEPS = 50, TEACHING = [12, 20];
/** Widths of the two cases' models: kernels take most of the time, and fifty steps a few minutes. */
const WIDTH = 256, KINDS_WIDTH = 128;
/** Of the even split's step at most, and how far predictions may be off. */
const WANTED = { ratio: 0.6, error: 0.15, kinds: 0.2 };

/** Flags besides --json. */
export const flags: BenchFlags = { numbers: { steps: STEPS }, choices: { only: ["shares", "kinds"] } };

/** Measures and prints. Answers with false where a promise is not kept. */
export async function run({ flags, ...output }: BenchOptions): Promise<boolean> {
  const steps = flags.number("steps", { min: 1, integer: true }) ?? STEPS, only = flags.text("only");
  let kept = true;
  if (only !== "kinds") kept = await shares(steps, output) && kept;
  if (only !== "shares") kept = await kinds(steps, output) && kept;
  return kept;
}

async function shares(steps: number, { record, print }: Output): Promise<boolean> {
  return await withText(async (folder) => {
    const [even] = await sharedRuns(folder, SHARES, false, [WARM + steps], WIDTH);
    const taught = await sharedRuns(folder, SHARES, true, [...TEACHING, WARM + steps], WIDTH);
    const planned = taught[taught.length - 1];
    const ratio = planned.measured / even.measured, error = planned.predicted / planned.measured - 1;
    record({ case: "shares", even, taught, ratio, error });
    print(
      ...shown([row("shares untold", even), ...rows(taught)], "layers (share lent)"),
      `step ${ratio.toFixed(2)} of the even split's (wanted at most ${WANTED.ratio}); predicted ` +
        `${(100 * error).toFixed(0)}% off (wanted within ${100 * WANTED.error}%)`,
    );
    return ratio <= WANTED.ratio && Math.abs(error) <= WANTED.error;
  });
}

async function kinds(steps: number, { record, print }: Output): Promise<boolean> {
  const icd = await findSwiftShader();
  if (icd === undefined) {
    const why = "no SwiftShader is installed (on Debian: apt-get install chromium)";
    record({ case: "kinds", skipped: why });
    print(`two kinds: skipped, ${why}`);
    return true;
  }
  return await withText(async (folder) => {
    const { runs, devices } = await kindsRuns(folder, icd, [...TEACHING, WARM + steps], KINDS_WIDTH);
    const planned = runs[runs.length - 1], error = planned.predicted / planned.measured - 1;
    const { own = 0, swiftshader = 0 } = planned.layers;
    record({ case: "kinds", devices, runs, error });
    print(
      ...shown(rows(runs), "layers (worker)"),
      ...devices.map(({ worker, device, flops }) =>
        `${worker}: ${device}, measured at its join ${quantity(flops, "FLOPS")}`
      ),
      `${swiftshader} of ${LAYERS} layers on SwiftShader; predicted ${
        (100 * error).toFixed(0)
      }% off (wanted ` +
        `within ${100 * WANTED.kinds}%)`,
    );
    return Math.abs(error) <= WANTED.kinds && swiftshader > 0 && swiftshader < own;
  });
}

function rows(runs: readonly Ran[]): string[][] {
  return runs.map((each, i) => row(`told, run ${i + 1}`, each));
}

function shown(rows: readonly string[][], what: string): string[] {
  return table([["", what, "predicted", "measured", "9 of 10 steps", "busy"], ...rows]);
}

function row(name: string, { split, predicted, measured, spread, busy }: Ran): string[] {
  const ms = (seconds: number) => `${(1_000 * seconds).toFixed(0)} ms`;
  return [
    name,
    split.join(", "),
    ms(predicted),
    ms(measured),
    spread.map(ms).join(" to "),
    busy.map((share) => `${Math.round(100 * share)}%`).join(" "),
  ];
}
