/**
 * Unequal workers that are real, training twelve layers in eight microbatches.
 *
 * Shares: three of one machine's devices, of which all, a half and a quarter of the time are lent. Once the coordinator is
 * told the shares, once it is not and divides the layers evenly. The told mesh makes short runs first: from their steps the
 * coordinator learns what a measurement at the join cannot show, and the run behind them is predicted with that.
 *
 * Kinds: SwiftShader beside the machine's own adapter, each in a process of its own; skipped where no SwiftShader is installed
 * (Debian's package chromium brings it).
 *
 * @module
 */
import { UsageError } from "../../cli/verb.ts";
import { quantity, table } from "../../coordinator/amounts.ts";
import { findSwiftShader, kindsRuns } from "./hetero_kinds.ts";
import { LAYERS, type Ran, sharedRuns, WARM } from "./hetero_runs.ts";
import { withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "unequal workers: the planner's split beside an even one, predicted beside measured";

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
  /** `--steps=N`: steps that count, instead of fifty. `--only=shares` or `--only=kinds`. */
  readonly args?: readonly string[];
}

const SHARES = [1, 0.5, 0.25];
/** Steps that count unless told, and those of the runs that teach. */
const STEPS = 50, TEACHING = [12, 20];
/** Widths of the two cases' models: kernels take most of the time, and fifty steps a few minutes. */
const WIDTH = 256, KINDS_WIDTH = 128;
/** Of the even split's step at most, and how far predictions may be off. */
const WANTED = { ratio: 0.6, error: 0.15, kinds: 0.2 };

/** Measures and prints; with `json` one object on stdout. Answers with false where a promise is not kept. */
export async function run({ json, args = [] }: BenchOptions): Promise<boolean> {
  const value = (flag: string) => args.find((arg) => arg.startsWith(`--${flag}=`))?.slice(flag.length + 3);
  const steps = Number(value("steps") ?? STEPS), only = value("only");
  if (!(Number.isInteger(steps) && steps > 0)) {
    throw new UsageError("--steps takes a whole number from 1 up.");
  }
  if (only !== undefined && only !== "shares" && only !== "kinds") {
    throw new UsageError(`--only takes shares or kinds, not "${only}".`);
  }
  let kept = true;
  if (only !== "kinds") kept = await shares(steps, json) && kept;
  if (only !== "shares") kept = await kinds(steps, json) && kept;
  return kept;
}

async function shares(steps: number, json: boolean): Promise<boolean> {
  return await withText(async (folder) => {
    const [even] = await sharedRuns(folder, SHARES, false, [WARM + steps], WIDTH);
    const taught = await sharedRuns(folder, SHARES, true, [...TEACHING, WARM + steps], WIDTH);
    const planned = taught[taught.length - 1];
    const ratio = planned.measured / even.measured, error = planned.predicted / planned.measured - 1;
    if (json) console.log(JSON.stringify({ case: "shares", even, taught, ratio, error }));
    else {
      show([row("shares untold", even), ...rows(taught)], "layers (share lent)");
      console.log(
        `step ${ratio.toFixed(2)} of the even split's (wanted at most ${WANTED.ratio}); predicted ` +
          `${(100 * error).toFixed(0)}% off (wanted within ${100 * WANTED.error}%)`,
      );
    }
    return ratio <= WANTED.ratio && Math.abs(error) <= WANTED.error;
  });
}

async function kinds(steps: number, json: boolean): Promise<boolean> {
  const icd = await findSwiftShader();
  if (icd === undefined) {
    const why = "no SwiftShader is installed (on Debian: apt-get install chromium)";
    console.log(json ? JSON.stringify({ case: "kinds", skipped: why }) : `two kinds: skipped, ${why}`);
    return true;
  }
  return await withText(async (folder) => {
    const { runs, devices } = await kindsRuns(folder, icd, [...TEACHING, WARM + steps], KINDS_WIDTH);
    const planned = runs[runs.length - 1], error = planned.predicted / planned.measured - 1;
    const { own = 0, swiftshader = 0 } = planned.layers;
    if (json) console.log(JSON.stringify({ case: "kinds", devices, runs, error }));
    else {
      show(rows(runs), "layers (worker)");
      for (const { worker, device, flops } of devices) {
        console.log(`${worker}: ${device}, measured at its join ${quantity(flops, "FLOPS")}`);
      }
      console.log(
        `${swiftshader} of ${LAYERS} layers on SwiftShader; predicted ${
          (100 * error).toFixed(0)
        }% off (wanted within ` +
          `${100 * WANTED.kinds}%)`,
      );
    }
    return Math.abs(error) <= WANTED.kinds && swiftshader > 0 && swiftshader < own;
  });
}

function rows(runs: readonly Ran[]): string[][] {
  return runs.map((each, i) => row(`told, run ${i + 1}`, each));
}

function show(rows: readonly string[][], what: string): void {
  for (const line of table([["", what, "predicted", "measured", "9 of 10 steps", "busy"], ...rows])) {
    console.log(line);
  }
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
