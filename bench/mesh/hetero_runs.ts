/**
 * Runs of unequal workers for bench/mesh/hetero.ts: a dense model of twelve layers in eight microbatches, and what its events say
 * of plan and steps.
 *
 * @module
 */
import { median } from "../harness/statistics.ts";
import { type Line, memoryMesh } from "./mesh_runs.ts";

/** Layers of the model, and microbatches of a step. */
export const LAYERS = 12, MICROBATCHES = 8;
/** Steps at the beginning of a run that do not count: devices compile and tune. */
export const WARM = 5;

/** The recipe of a run of so many steps. Wide enough that kernels, not calls, take the time. */
export function recipe(name: string, steps: number, width: number): string {
  return `
name = "${name}"
[model]
model_type = "volary"
vocab_size = 259
hidden_size = ${width}
intermediate_size = ${2 * width}
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
export interface Ran {
  /** Stages in order: layers and, of each worker, what `names` calls it. */
  readonly split: readonly string[];
  /** Layers by worker's name. */
  readonly layers: Readonly<Record<string, number>>;
  readonly predicted: number;
  /** Median seconds of a step, and between which nine of ten lie. */
  readonly measured: number;
  readonly spread: readonly [number, number];
  /** Share of a step in which each stage's device worked or had to rest. */
  readonly busy: readonly number[];
}

type Held = {
  readonly worker: string;
  readonly layers: readonly { readonly from: number; readonly to: number }[];
};
type Step = {
  readonly seconds: number;
  readonly workers: readonly { readonly worker: string; readonly busy: number }[];
};

/** Reads a run's events. */
export function ran(events: readonly Line[], names: (worker: string) => string): Ran {
  const plan = events.find(({ event }) => event === "plan");
  const steps = events.filter(({ event }) => event === "step").slice(WARM) as unknown as Step[];
  if (plan === undefined || steps.length === 0) {
    throw new Error(`A run did not come to its end: ${JSON.stringify(events.at(-1))}`);
  }
  const held = (plan.workers as Held[]).filter(({ layers }) => layers.length > 0)
    .sort((a, b) => a.layers[0].from - b.layers[0].from);
  const count = ({ layers }: Held) => layers.reduce((sum, { from, to }) => sum + to - from, 0);
  const seconds = steps.map(({ seconds }) => seconds).sort((a, b) => a - b);
  const at = (share: number) => seconds[Math.round(share * (seconds.length - 1))];
  return {
    split: held.map((each) => `${count(each)} (${names(each.worker)})`),
    layers: Object.fromEntries(held.map((each) => [each.worker, count(each)])),
    predicted: Number(plan.predicted),
    measured: median(seconds),
    spread: [at(0.05), at(0.95)],
    busy: held.map(({ worker }) =>
      median(steps.map(({ workers }) => workers.find((each) => each.worker === worker)!.busy))
    ),
  };
}

/** Runs recipes of so many steps one after the other on one mesh in memory, of workers that lend these shares. */
export async function sharedRuns(
  folder: string,
  shares: readonly number[],
  told: boolean,
  lengths: readonly number[],
  width: number,
): Promise<Ran[]> {
  const recipes = lengths.map((steps, i) => recipe(`${told ? "told" : "untold"}-${i}`, steps, width));
  const found: Ran[] = [];
  let events: Line[] = [];
  for await (const line of memoryMesh(recipes, folder, { workers: shares.length, lent: { shares, told } })) {
    events.push(line);
    if (line.event !== "done") continue;
    found.push(ran(events, (worker) => `${shares[Number(worker.slice(1))]}`));
    events = [];
  }
  return found;
}
