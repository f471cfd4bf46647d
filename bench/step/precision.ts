/**
 * What do bf16 products do to learning? A model of a million parameters on the demo's text, the same weights, batches and rates
 * once in f32 and once in bf16, step by step beside each other, for three seeds or the one of --seed. Wanted: bf16's
 * validation on average at most 0.05 bits per byte above f32's.
 *
 * @module
 */
import { chinese, english } from "../../demo/corpus.ts";
import { type Device, webgpuDevice } from "../../kernels/mod.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { Precision } from "../../model/precision.ts";
import { randomStream } from "../../model/random.ts";
import { oneThread } from "../harness/adapter.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";

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

/**
 * Bits per byte by which bf16's validation may on average lie above f32's. After so few steps single runs of one precision that
 * differ in nothing but their seed lie about as far apart.
 */
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

/** One precision's part of a seed. */
interface Learned {
  readonly precision: Precision;
  /** Mean training losses of {@linkcode SMOOTH} steps each, nats a byte. */
  readonly curve: readonly number[];
  /** On the whole validation text. */
  readonly bitsPerByte: number;
}

/** Trains with both precisions from the same weights on the same batches. */
async function learn(
  device: Device,
  seed: number,
  train: Uint8Array,
  validation: Uint8Array,
): Promise<Learned[]> {
  const runs = [];
  for (const precision of precisions) {
    const model = await LoadedModel.load(device, freshModel(config, seed), { training: true, precision });
    runs.push({ precision, model, losses: [] as number[] });
  }
  for (let step = 1; step <= STEPS; step++) {
    const draw = randomStream(seed, "windows", step);
    const starts = Array.from({ length: BATCH }, () => draw.integer(train.length - SEQUENCE - 1));
    const { sequences, labels } = windows(train, starts);
    const settings = { ...optimizer, step, learningRate: rate(step) };
    for (const { model, losses } of runs) losses.push((await model.step(sequences, labels, settings)).ce);
  }
  const learned: Learned[] = [];
  for (const { precision, model, losses } of runs) {
    const curve: number[] = [];
    for (let at = 0; at + SMOOTH <= losses.length; at += SMOOTH) {
      curve.push(losses.slice(at, at + SMOOTH).reduce((sum, loss) => sum + loss, 0) / SMOOTH);
    }
    learned.push({ precision, curve, bitsPerByte: await bitsPerByte(model, validation) });
    model.release();
  }
  return learned;
}

async function bitsPerByte(model: LoadedModel, text: Uint8Array): Promise<number> {
  let nats = 0, count = 0;
  for (let start = 0; start + SEQUENCE < text.length; start += 8 * SEQUENCE) {
    const starts = Array.from({ length: 8 }, (_, i) => start + i * SEQUENCE)
      .filter((at) => at + SEQUENCE < text.length);
    const { sequences, labels } = windows(text, starts);
    const { sum, valid } = await model.loss(sequences, labels);
    nats += sum;
    count += valid;
  }
  return nats / count / Math.LN2;
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { seed: "SEED" } };

/**
 * Trains and prints losses; false where the mean of bf16's validations is further above f32's than
 * {@linkcode TOLERATED}.
 */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  oneThread();
  const given = flags.number("seed", { integer: true });
  const seeds = given === undefined ? [1, 2, 3] : [given];
  const corpora = [await english(), chinese()];
  const [train, validation] = (["train", "validation"] as const).map((part) =>
    encoder.encode(corpora.map((corpus) => corpus[part]).join(""))
  );
  const device = await webgpuDevice();
  const apart: number[] = [];
  for (const seed of seeds) {
    const learned = await learn(device, seed, train, validation);
    const [exact, rounded] = learned;
    apart.push(rounded.bitsPerByte - exact.bitsPerByte);
    record({ seed, steps: STEPS, tokens: BATCH * SEQUENCE, learned });
    print(
      `seed ${seed}: mean training loss of ${SMOOTH} steps (nats a byte)`,
      `${"steps".padEnd(12)}${precisions.map((name) => name.padStart(9)).join("")}    apart`,
    );
    exact.curve.forEach((loss, i) => {
      const steps = `${i * SMOOTH + 1}-${(i + 1) * SMOOTH}`, other = rounded.curve[i];
      const numbers = [loss, other, other - loss].map((value) => value.toFixed(4).padStart(9)).join("");
      print(steps.padEnd(12) + numbers);
    });
    const ends = learned.map(({ precision, bitsPerByte }) => `${precision} ${bitsPerByte.toFixed(4)}`);
    print(`validation, bits per byte: ${ends.join(", ")}\n`);
  }
  device.close();
  const mean = apart.reduce((sum, each) => sum + each, 0) / apart.length;
  print(`bf16 ends ${mean.toFixed(4)} bits per byte above f32 (at most ${TOLERATED})`);
  return mean <= TOLERATED;
}
