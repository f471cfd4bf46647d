/**
 * Does the paper's Table 1 come out in small? Losses of a grown model before it is trained, by way of growing, and after equal
 * training. Wanted: FPI interpolate < FPI stack < AKI-Pro interpolate < AKI stack < random, width alone exact, and after
 * equal tokens AKI <= FPI < from scratch; docs/ says where an order does not come out.
 *
 * Sources are trained on real text (one for each seed), grown to twice the width and a third more layers as 24 x 2048 ->
 * 32 x 4096 in the paper, and measured on the whole validation text. Then AKI-Pro, FPI and a fresh model of the large size
 * train on the same tokens. Everything that was trained lies in --folder and is not trained again; sizes are flags.
 *
 * @module
 */
import { join, relative } from "@std/path";
import { table } from "../../coordinator/amounts.ts";
import { textLoss } from "../../cli/text_loss.ts";
import { type Device, openDevice } from "../../kernels/mod.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../model/config.ts";
import { growModel, type GrowthOptions } from "../../model/growth/growth.ts";
import { freshModel } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { TensorSource } from "../../model/source.ts";
import { countParameters } from "../../model/tensors.ts";
import type { BenchFlags, BenchOptions, Output } from "../harness/bench.ts";
import { benchText, progress, runLeg } from "./one_worker.ts";

/** One line for the list of benches. */
export const title = "the paper's Table 1: losses of grown models before and after training (hours)";

/** Tokens of a sequence, in training and in measuring. */
const SEQUENCE = 128;

/** Sizes and lengths. The defaults need hours on two cores; docs/ says what was run. */
const defaults = {
  layers: 6,
  hidden: 64,
  ffn: 176,
  heads: 4,
  "target-layers": 8,
  "target-hidden": 128,
  "target-ffn": 352,
  "target-heads": 8,
  batch: 8,
  "source-tokens": 2_457_600,
  /** Of the sources of all seeds but the first. */
  "other-tokens": 2_457_600,
  seeds: 3,
  /** Tokens of the three models that train on; 0: initial losses only. */
  tokens: 2_457_600,
  /** Of how many sources models train on. */
  trained: 1,
  "learning-rate": 3e-3,
  "target-learning-rate": 2e-3,
};
type Sizes = typeof defaults;

/** Ways to a larger model, in the paper's order of the loss at the beginning. */
const ways: readonly (readonly [name: string, options: GrowthOptions])[] = [
  ["FPI interpolate", { method: "fpi", depth: "interpolate", width: "copies" }],
  ["FPI stack", { method: "fpi", depth: "stack", width: "copies" }],
  ["AKI-Pro interpolate", { method: "aki", depth: "interpolate", width: "copies" }],
  ["AKI stack", { method: "aki", depth: "stack", width: "copies" }],
];

function config(hidden: number, ffn: number, layers: number, heads: number, headDim: number): string {
  return `hidden_size = ${hidden}
intermediate_size = ${ffn}
num_hidden_layers = ${layers}
num_attention_heads = ${heads}
num_key_value_heads = 2
head_dim = ${headDim}
attention_bias = true
max_position_embeddings = 512
rope_theta = 10000.0`;
}

function training(sizes: Sizes, tokens: number, rate: number, seed: number): string {
  const steps = Math.ceil(tokens / (sizes.batch * SEQUENCE)), every = Math.max(1, Math.round(steps / 6));
  return `[[phase]]
kind = "train"
steps = ${steps}
batch = ${sizes.batch}
sequence = ${SEQUENCE}
learning_rate = ${rate}
warmup = ${Math.min(100, Math.ceil(steps / 20))}
seed = ${seed}
evaluate_every = ${every}
evaluate_batches = 64
checkpoint_every = 100
`;
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const folder = flags.text("folder") ?? join("runs", "bench-table1");
  const sizes = flags.numbers(defaults), data = await benchText(folder);
  const headDim = sizes.hidden / sizes.heads;
  const text = await validationText(folder);
  const sources: string[] = [];
  for (let seed = 1; seed <= sizes.seeds; seed++) {
    const name = `source-${seed}`, tokens = seed === 1 ? sizes["source-tokens"] : sizes["other-tokens"];
    const model = config(sizes.hidden, sizes.ffn, sizes.layers, sizes.heads, headDim);
    const recipe = `name = "${name}"\n[model]\n${model}\nseed = ${seed}\n${data}${
      training(sizes, tokens, sizes["learning-rate"], seed)
    }`;
    sources.push((await runLeg(folder, recipe, progress(name))).model);
  }
  const rows = await initialLosses(folder, sources, sizes, text);
  record({ initial: rows });
  print(...table([
    ["before training", ...sources.map((_, s) => `seed ${s + 1}`)],
    ...rows.map(({ name, losses }) => [name, ...losses.map((loss) => loss.toFixed(4))]),
  ]));
  if (sizes.tokens === 0) return;
  for (const [s, source] of sources.slice(0, sizes.trained).entries()) {
    await trainOn(folder, data, source, sizes, s + 1, { record, print });
  }
}

/** A way to a larger model and the loss that it begins with, by seed. */
interface Initial {
  readonly name: string;
  readonly losses: number[];
}

/** Measures every way from every source; what was measured of the same sources lies in initial.json. */
async function initialLosses(
  folder: string,
  sources: readonly string[],
  sizes: Sizes,
  text: string,
): Promise<Initial[]> {
  const path = join(folder, "initial.json"),
    key = JSON.stringify({ sources, sizes: { ...sizes, tokens: 0, trained: undefined } });
  const known = JSON.parse(await Deno.readTextFile(path).catch(() => "{}"));
  const found = new Map<string, number[]>(known.key === key ? known.found : []);
  const device = await openDevice();
  try {
    for (const [s, folder] of sources.entries()) {
      const source = await openCheckpoint(denoRuntime().storage, folder),
        target = grown(source.config, sizes);
      const wide = { ...target, layers: source.config.layers };
      const models: [name: string, model: () => TensorSource][] = [
        ["source", () => source],
        ["FPI, width alone", () => growModel(source, wide, ways[0][1])],
        ...ways.map(([name, options]) =>
          [name, () => growModel(source, target, options)] as [string, () => TensorSource]
        ),
        ["random", () => freshModel(target, s + 1)],
      ];
      for (const [name, model] of models) {
        const losses = found.get(name) ?? [];
        found.set(name, losses);
        if (losses.length > s) continue;
        losses.push(await lossOf(device, model(), text));
        await Deno.writeTextFile(path, JSON.stringify({ key, found: [...found] }));
      }
      if (s === 0) {
        const [before, after] = [source.config, target].map((c) => countParameters(c).total);
        console.error(`  ${before} -> ${after} parameters; ${text.length} characters, nats a token (a byte)`);
      }
    }
  } finally {
    device.close();
  }
  return [...found].map(([name, losses]) => ({ name, losses }));
}

function grown(source: ModelConfig, sizes: Sizes): ModelConfig {
  return {
    ...source,
    layers: sizes["target-layers"],
    hiddenSize: sizes["target-hidden"],
    intermediateSize: sizes["target-ffn"],
    heads: sizes["target-heads"],
  };
}

/** AKI-Pro, FPI and a fresh model, trained on the same tokens in the same order. */
async function trainOn(
  folder: string,
  data: string,
  source: string,
  sizes: Sizes,
  seed: number,
  { record, print }: Output,
): Promise<void> {
  const headDim = sizes.hidden / sizes.heads;
  const phase = training(sizes, sizes.tokens, sizes["target-learning-rate"], 10 + seed);
  const grow = (method: string) =>
    `[model]\nfolder = "${relative(folder, source)}"\n${data}[[phase]]
kind = "grow"
hidden_size = ${sizes["target-hidden"]}
intermediate_size = ${sizes["target-ffn"]}
num_hidden_layers = ${sizes["target-layers"]}
num_attention_heads = ${sizes["target-heads"]}
method = "${method}"
`;
  const large = config(
    sizes["target-hidden"],
    sizes["target-ffn"],
    sizes["target-layers"],
    sizes["target-heads"],
    headDim,
  );
  const legs: [name: string, head: string][] = [
    ["aki-pro", grow("aki-pro")],
    ["fpi", grow("fpi")],
    ["scratch", `[model]\n${large}\nseed = ${seed}\n${data}`],
  ];
  const rows: string[][] = [];
  for (const [leg, head] of legs) {
    const name = seed === 1 ? leg : `${leg}-${seed}`;
    const { report } = await runLeg(folder, `name = "${name}"\n${head}${phase}`, progress(name));
    record({ trained: name, validations: report.validations });
    if (rows.length === 0) {
      rows.push([
        "after tokens",
        ...report.validations.filter(({ step }) => step > 0).map((v) => `${v.tokens}`),
      ]);
    }
    rows.push([
      name,
      ...report.validations.filter(({ step }) => step > 0).map(({ nll }) => (nll ?? NaN).toFixed(4)),
    ]);
  }
  print(...table(rows));
}

async function validationText(folder: string): Promise<string> {
  const parts = ["english", "chinese"].map((name) =>
    Deno.readTextFile(join(folder, `${name}.validation.txt`))
  );
  return (await Promise.all(parts)).join("");
}

async function lossOf(device: Device, source: TensorSource, text: string): Promise<number> {
  const model = await LoadedModel.load(device, source);
  try {
    return (await textLoss(model, byteTokenizer(), text, SEQUENCE)).nll;
  } finally {
    model.release();
  }
}
