/**
 * What bf16 products do to learning: a model of a million parameters on the demo's text, the same weights, batches and rates once in f32 and
 * once in bf16, step by step beside each other.
 *
 * @module
 */
import { chinese, english } from "../demo/corpus.ts";
import { webgpuDevice } from "../kernels/mod.ts";
import { parseConfig } from "../model/config.ts";
import { freshModel } from "../model/init.ts";
import { LoadedModel } from "../model/local_model.ts";
import type { Precision } from "../model/precision.ts";
import { randomStream } from "../model/random.ts";
import type { BenchOptions } from "./main.ts";

/** One line for the list of benches. */
export const title = "loss curves of f32 and bf16 products on the demo's text";

const config = parseConfig({
  model_type: "aquilamoe",
  vocab_size: 259,
  hidden_size: 96,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 24,
  rms_norm_eps: 1e-5,
  attention_bias: true,
  tie_word_embeddings: false,
  num_local_experts: 8,
  num_experts_per_tok: 2,
  router_aux_loss_coef: 0.01,
  router_z_loss_coef: 0.001,
});

const BATCH = 4, SEQUENCE = 128, STEPS = 160, WARMUP = 20;

const optimizer = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 };

/** Learning rate of a step: up in a line, down along a cosine to a tenth. */
function rate(step: number): number {
  const highest = 4e-3;
  if (step <= WARMUP) return highest * step / WARMUP;
  return highest * (0.55 + 0.45 * Math.cos(Math.PI * (step - WARMUP) / (STEPS - WARMUP)));
}

const precisions: readonly Precision[] = ["f32", "bf16"];

/** Steps that one printed loss is the mean of. */
const SMOOTH = 20;

/** Largest difference of the validation's bits per byte between the two. */
const TOLERATED = 0.05;

const encoder = new TextEncoder();

/** Sequences of bytes and the bytes behind them, from `starts` in `text`. */
function windows(text: Uint8Array, starts: readonly number[]) {
  const sequence = SEQUENCE;
  const ids = new Uint32Array(starts.length * sequence), labels = new Uint32Array(starts.length * sequence);
  starts.forEach((start, b) => {
    ids.set(text.subarray(start, start + sequence), b * sequence);
    labels.set(text.subarray(start + 1, start + sequence + 1), b * sequence);
  });
  return { sequences: { ids, batch: starts.length, sequence }, labels };
}

/** Trains both and prints their losses; false where they end further apart than {@linkcode TOLERATED}. */
export async function run({ json }: BenchOptions): Promise<boolean> {
  if (Deno.env.get("LP_NUM_THREADS") === undefined) Deno.env.set("LP_NUM_THREADS", "1");
  const corpora = [await english(), chinese()];
  const [train, validation] = (["train", "validation"] as const).map((part) =>
    encoder.encode(corpora.map((corpus) => corpus[part]).join(""))
  );
  const device = await webgpuDevice();
  const runs = [];
  for (const precision of precisions) {
    const loaded = await LoadedModel.load(device, freshModel(config, 1), {
      training: true,
      precision,
    });
    runs.push({ precision, loaded, losses: [] as number[] });
  }
  for (let step = 1; step <= STEPS; step++) {
    const draw = randomStream(1, "windows", step);
    const starts = Array.from({ length: BATCH }, () => draw.integer(train.length - SEQUENCE - 1));
    const { sequences, labels } = windows(train, starts);
    const settings = { ...optimizer, step, learningRate: rate(step) };
    for (const { loaded, losses } of runs) losses.push((await loaded.step(sequences, labels, settings)).ce);
  }
  const results = [];
  for (const { precision, loaded, losses } of runs) {
    let nats = 0, count = 0;
    for (let start = 0; start + SEQUENCE < validation.length; start += 8 * SEQUENCE) {
      const starts = Array.from({ length: 8 }, (_, i) => start + i * SEQUENCE)
        .filter((at) => at + SEQUENCE < validation.length);
      const { sequences, labels } = windows(validation, starts);
      const { sum, valid } = await loaded.loss(sequences, labels);
      nats += sum;
      count += valid;
    }
    loaded.release();
    const curve: number[] = [];
    for (let at = 0; at + SMOOTH <= losses.length; at += SMOOTH) {
      curve.push(losses.slice(at, at + SMOOTH).reduce((sum, loss) => sum + loss, 0) / SMOOTH);
    }
    results.push({ precision, curve, bitsPerByte: nats / count / Math.LN2 });
  }
  device.close();
  const [exact, rounded] = results;
  if (json) {
    console.log(JSON.stringify({ bench: "precision", steps: STEPS, tokens: BATCH * SEQUENCE, results }));
  } else {
    console.log(`mean training loss of ${SMOOTH} steps (nats a byte)`);
    console.log(`${"steps".padEnd(12)}${precisions.map((name) => name.padStart(9)).join("")}   apart`);
    exact.curve.forEach((loss, i) => {
      const other = rounded.curve[i];
      console.log(
        `${`${i * SMOOTH + 1}-${(i + 1) * SMOOTH}`.padEnd(12)}${loss.toFixed(4).padStart(9)}${
          other.toFixed(4).padStart(9)
        }${(other - loss).toFixed(4).padStart(9)}`,
      );
    });
    console.log(
      `validation, bits per byte: ${
        results.map((r) => `${r.precision} ${r.bitsPerByte.toFixed(4)}`).join(", ")
      }`,
    );
  }
  return Math.abs(rounded.bitsPerByte - exact.bitsPerByte) <= TOLERATED;
}
