/**
 * Unequal workers that are real: three of one machine's devices, of which all, a half and a quarter of the time are lent,
 * train twelve layers in eight microbatches. Once the coordinator is told the shares, once it is not and divides the
 * layers evenly. The told mesh makes a short run first: from its steps the coordinator learns what a measurement at the join
 * cannot show, and the run behind it is predicted with that.
 *
 * @module
 */
import { join } from "@std/path";
import { UsageError } from "../cli/verb.ts";
import { table } from "../coordinator/report.ts";
import { type Line, lines, median, script, withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "unequal workers: the planner's split beside an even one, predicted beside measured";

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
  /** `--steps=N`: steps that count, instead of fifty. */
  readonly args?: readonly string[];
}

const SHARES = [1, 0.5, 0.25], LAYERS = 12, MICROBATCHES = 8;
/** Steps that count unless told, those before them in which devices compile and tune, and those of the run that teaches. */
const STEPS = 50, WARM = 5, TEACHING = 12;
/** Of the even split's step at most, and how far predictions may be off. */
const WANTED = { ratio: 0.6, error: 0.15 };

function recipe(name: string, steps: number): string {
  return `
name = "${name}"
[model]
model_type = "volary"
vocab_size = 259
hidden_size = 128
intermediate_size = 256
num_hidden_layers = ${LAYERS}
num_attention_heads = 4
num_key_value_heads = 2
tie_word_embeddings = false
seed = 1
[data]
train = ["text.txt"]
tokenizer = "bytes"
epochs = 1000
[[phase]]
kind = "train"
steps = ${steps}
batch = ${MICROBATCHES}
microbatches = ${MICROBATCHES}
sequence = 128
learning_rate = 1e-3
evaluate_batches = 0
`;
}

/** A run as it was planned and went. */
interface Ran {
  /** Layers of each stage, with the share that its worker lends. */
  readonly split: readonly string[];
  readonly predicted: number;
  /** Median seconds of a step. */
  readonly measured: number;
  /** Share of a step in which each worker's device worked or had to rest. */
  readonly busy: readonly number[];
}

/** Runs recipes of so many steps on one mesh, one after the other. */
async function runs(folder: string, told: boolean, lengths: readonly number[]): Promise<Ran[]> {
  const paths = await Promise.all(lengths.map(async (steps, i) => {
    const name = `${told ? "told" : "untold"}-${i}`, path = join(folder, `${name}.toml`);
    await Deno.writeTextFile(path, recipe(name, steps));
    return path;
  }));
  const process = script(
    "mesh_process.ts",
    [
      paths.join(","),
      folder,
      `${SHARES.length}`,
      "auto",
      SHARES.join(","),
      told ? "told" : "untold",
    ],
    "null",
    { LP_NUM_THREADS: "1" },
  );
  const found: Ran[] = [];
  let events: Line[] = [];
  for await (const line of lines(process.stdout)) {
    events.push(line);
    if (line.event !== "done") continue;
    found.push(ran(events));
    events = [];
  }
  await process.status;
  if (found.length < lengths.length) {
    throw new Error(`A run did not come to its end: ${JSON.stringify(events.at(-1))}`);
  }
  return found;
}

type Held = {
  readonly worker: string;
  readonly layers: readonly { readonly from: number; readonly to: number }[];
};
type Step = {
  readonly seconds: number;
  readonly workers: readonly { readonly worker: string; readonly busy: number }[];
};

function ran(events: readonly Line[]): Ran {
  const plan = events.find(({ event }) => event === "plan")!;
  const steps = events.filter(({ event }) => event === "step").slice(WARM) as unknown as Step[];
  const held = (plan.workers as Held[]).filter(({ layers }) => layers.length > 0)
    .sort((a, b) => a.layers[0].from - b.layers[0].from);
  return {
    split: held.map(({ worker, layers }) =>
      `${layers.reduce((sum, { from, to }) => sum + to - from, 0)} (${SHARES[Number(worker.slice(1))]})`
    ),
    predicted: Number(plan.predicted),
    measured: median(steps.map(({ seconds }) => seconds)),
    busy: held.map(({ worker }) =>
      median(steps.map(({ workers }) => workers.find((each) => each.worker === worker)!.busy))
    ),
  };
}

/** Measures and prints; with `json` one object on stdout. Answers with false where a promise is not kept. */
export async function run({ json, args = [] }: BenchOptions): Promise<boolean> {
  const given = Number(args.find((arg) => arg.startsWith("--steps="))?.slice("--steps=".length) ?? STEPS);
  if (!(Number.isInteger(given) && given > 0)) {
    throw new UsageError("--steps takes a whole number from 1 up.");
  }
  return await withText(async (folder) => {
    const [even] = await runs(folder, false, [WARM + given]);
    const [first, planned] = await runs(folder, true, [TEACHING, WARM + given]);
    const ratio = planned.measured / even.measured, error = planned.predicted / planned.measured - 1;
    const result = { even, first, planned, ratio, error };
    const kept = ratio <= WANTED.ratio && Math.abs(error) <= WANTED.error;
    if (json) console.log(JSON.stringify(result));
    else {
      const ms = (seconds: number) => `${(1_000 * seconds).toFixed(0)} ms`;
      const row = (name: string, { split, predicted, measured, busy }: Ran) => [
        name,
        split.join(", "),
        ms(predicted),
        ms(measured),
        busy.map((share) => `${Math.round(100 * share)}%`).join(" "),
      ];
      const rows = [
        ["", "layers (share lent)", "predicted", "measured", "busy"],
        row("shares untold", even),
        row("told, first run", first),
        row("told, next run", planned),
      ];
      for (const line of table(rows)) console.log(line);
      console.log(
        `step ${ratio.toFixed(2)} of the even split's (wanted at most ${WANTED.ratio}); predicted ` +
          `${(100 * error).toFixed(0)}% off (wanted within ${100 * WANTED.error}%)`,
      );
    }
    return kept;
  });
}
