/**
 * What does local training cost in loss and save in traffic? Two replicas that exchange how far they have come every 20 steps
 * beside two that add their gradients in every step, on the same tokens of real text, with three seeds. Wanted: at most
 * 1.02 times the loss at a tenth of the traffic. `--seed=1` measures one seed alone; the whole takes a while.
 *
 * As in DiLoCo's paper both go on from one short phase of ordinary training: replicas that begin at random weights move too
 * fast to be averaged (over 500 steps from scratch local training ended 3 to 4 % higher here, also with a cosine and a
 * warm-up of 50 steps; most of it is lost in the first hundred). Loss and traffic that count are those of the 500 steps
 * behind it; what both phases together sent is said beside them.
 *
 * @module
 */
import { join } from "@std/path";
import { size, table } from "../../coordinator/amounts.ts";
import { chinese, english } from "../../demo/corpus.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { inTemporaryFolder } from "../harness/folders.ts";
import { memoryMesh } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "local training (DiLoCo) beside gradients in every step: loss and traffic";

const BEFORE = 150, STEPS = 500, EVERY = 20, SEEDS = [1, 2, 3];
/** How much higher the validation loss may be, and the share of the traffic that may be left. */
const MOST_LOSS = 1.02, MOST_TRAFFIC = 0.1;

function recipe(name: string, seed: number, local: boolean): string {
  return `
name = "${name}"
[model]
model_type = "aquilamoe"
vocab_size = 259
hidden_size = 32
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
attention_bias = true
tie_word_embeddings = false
num_local_experts = 4
num_experts_per_tok = 2
seed = ${seed}
[data]
train = ["en.txt", "zh.txt"]
validation = ["en-validation.txt", "zh-validation.txt"]
tokenizer = "bytes"
[mesh]
shares = [1, 1]
replicas = 2
[[phase]]
kind = "train"
steps = ${BEFORE}
warmup = 40
schedule = "constant"
evaluate_batches = 0
${shape(seed)}
[[phase]]
kind = "train"
steps = ${STEPS}
evaluate_batches = 48
${shape(seed)}
${local ? `[phase.local]\nevery = ${EVERY}\nouter_learning_rate = 0.7\nmomentum = 0.7\npatience = 100` : ""}
`;
}

/** What both phases have in common. */
function shape(seed: number): string {
  return `batch = 16\nmicrobatches = 2\nsequence = 64\nlearning_rate = 3e-3\nseed = ${seed}`;
}

interface Result {
  /** Validation loss behind the last step, nats a token. */
  readonly nll: number;
  /** Bytes that all workers sent in a step, on average. */
  readonly bytes: number;
  /** Bytes that they sent in both phases. */
  readonly all: number;
  readonly tokens: number;
}

/** A step as its run tells it. */
interface Told {
  readonly tokens: number;
  readonly workers: readonly { readonly sent: number }[];
}

async function train(folder: string, seed: number, local: boolean): Promise<Result> {
  const text = recipe(`diloco-${crypto.randomUUID()}`, seed, local);
  const events = await Array.fromAsync(memoryMesh([text], folder, { workers: 2, device: "reference" }));
  const [before, steps] = [0, 1].map((own) =>
    events.filter(({ event, phase }) => event === "step" && phase === own) as unknown as readonly Told[]
  );
  const bytesOf = (steps: readonly Told[]) =>
    steps.reduce((sum, { workers }) => sum + workers.reduce((all, { sent }) => all + sent, 0), 0);
  const sent = bytesOf(steps);
  // What the last exchange sends is reported with the round behind it, of which there is none: these are one less.
  const counted = local ? STEPS - EVERY : STEPS - 1;
  return {
    nll: Number(events.findLast(({ event }) => event === "evaluation")!.nll),
    bytes: sent / counted,
    all: bytesOf(before) + sent,
    tokens: steps.reduce((sum, { tokens }) => sum + tokens, 0),
  };
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { seed: "SEED" } };

/** Measures and prints; false where a seed misses its goal. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  const given = flags.number("seed", { integer: true });
  return await inTemporaryFolder(async (folder) => {
    const corpora = { en: await english(), zh: chinese() };
    for (const [language, { train, validation }] of Object.entries(corpora)) {
      await Deno.writeTextFile(join(folder, `${language}.txt`), train);
      await Deno.writeTextFile(join(folder, `${language}-validation.txt`), validation);
    }
    let good = true;
    const rows: string[][] = [["seed", "every step", "local", "loss", "traffic", "with the common phase"]];
    for (const seed of given === undefined ? SEEDS : [given]) {
      const sync = await train(folder, seed, false), local = await train(folder, seed, true);
      const loss = local.nll / sync.nll, traffic = local.bytes / sync.bytes;
      good &&= loss <= MOST_LOSS && traffic <= MOST_TRAFFIC && local.tokens === sync.tokens;
      record({ seed, sync, local, loss, traffic, most: { MOST_LOSS, MOST_TRAFFIC } });
      rows.push([
        String(seed),
        `${sync.nll.toFixed(4)}, ${size(sync.bytes)} a step`,
        `${local.nll.toFixed(4)}, ${size(local.bytes)} a step`,
        `${loss.toFixed(4)} x (wanted ${MOST_LOSS})`,
        `${traffic.toFixed(3)} x (wanted ${MOST_TRAFFIC})`,
        `${(local.all / sync.all).toFixed(3)} x`,
      ]);
    }
    print(...table(rows));
    return good;
  });
}
