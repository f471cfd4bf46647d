/** Training with bf16 products: close to f32, and the same on every device and partition. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../kernels/mod.ts";
import { wholeModel } from "../../model/layout.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { ModelError } from "../../model/errors.ts";
import { Parameters } from "../../model/parameters.ts";
import type { Precision } from "../../model/precision.ts";
import { randomStream } from "../../model/random.ts";
import { devices } from "./devices.ts";
import { memorySource, randomWeights, smallConfig } from "./models.ts";

const BATCH = 2, SEQUENCE = 9;
const settings = {
  learningRate: 3e-3,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

const kinds = {
  "dense, tied": smallConfig({ tie_word_embeddings: true }),
  "experts": smallConfig({ num_local_experts: 4, num_experts_per_tok: 2 }),
  "a shared expert": smallConfig({
    num_local_experts: 3,
    num_experts_per_tok: 1,
    shared_expert_intermediate_size: 10,
  }),
};

function batch(vocabulary: number) {
  const draw = randomStream(3, "batch");
  const words = () =>
    Uint32Array.from({ length: BATCH * SEQUENCE }, () => draw.integer(vocabulary)) as Uint32Array<
      ArrayBuffer
    >;
  return { sequences: { ids: words(), batch: BATCH, sequence: SEQUENCE }, labels: words() };
}

/** Losses of some steps on one batch, and every gradient of the first. */
async function train(device: Device, config: typeof kinds["experts"], precision: Precision, steps: number) {
  const source = memorySource(config, randomWeights(config));
  const model = await LoadedModel.load(device, source, { training: true, precision });
  try {
    const { sequences, labels } = batch(config.vocabSize);
    await model.gradients(sequences, labels);
    const gradients = new Map<string, Float32Array>();
    for (const { spec: { name } } of model.parameters.tensors) {
      gradients.set(name, await model.parameters.get(name, "gradient"));
    }
    model.parameters.clearGradients();
    const losses: number[] = [];
    for (let step = 1; step <= steps; step++) {
      losses.push((await model.step(sequences, labels, { ...settings, step })).ce);
    }
    return { gradients, losses };
  } finally {
    model.release();
  }
}

/** |a - b| / |b| by Euclidean norms. */
function distance(a: Float32Array, b: Float32Array): number {
  let apart = 0, size = 0;
  for (let i = 0; i < a.length; i++) {
    apart += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(apart / (size + 1e-30));
}

for (const { kind, device } of devices) {
  for (const [name, config] of Object.entries(kinds)) {
    Deno.test(`${kind}: ${name}: bf16 products give f32's losses and gradients up to bf16's rounding`, async () => {
      const exact = await train(device, config, "f32", 8), rounded = await train(device, config, "bf16", 8);
      // A bf16 number is off by up to 2^-9 of itself. Factors of about ten products in a row are rounded, errors are
      // independent and add up like a random walk: sqrt(20) * 2^-9 is 1 %, and gradients small by cancellation get more.
      for (const [tensor, gradient] of rounded.gradients) {
        const apart = distance(gradient, exact.gradients.get(tensor)!);
        assert(apart < 0.03, `gradient of ${tensor} is ${apart} apart`);
      }
      assert(
        [...rounded.gradients].some(([tensor, gradient]) =>
          distance(gradient, exact.gradients.get(tensor)!) > 1e-4
        ),
        "bf16 changes something",
      );
      rounded.losses.forEach((loss, step) => {
        const apart = Math.abs(loss / exact.losses[step] - 1);
        assert(apart < 0.003, `loss of step ${step + 1} is ${loss} instead of ${exact.losses[step]}`);
      });
      assert(rounded.losses[7] < 0.9 * rounded.losses[0], `it learns: ${rounded.losses}`);
    });
  }
}

for (const [name, config] of Object.entries(kinds)) {
  Deno.test(`${name}: bf16 is as close between devices as f32 is`, async () => {
    const [one, other] = await Promise.all(devices.map(({ device }) => train(device, config, "bf16", 2)));
    // Values that differ in f32's last place may round to different neighbours, so a few elements are off by bf16's step.
    for (const [tensor, gradient] of one.gradients) {
      const apart = distance(gradient, other.gradients.get(tensor)!);
      assert(apart < 0.001, `gradient of ${tensor} is ${apart} apart`);
    }
    one.losses.forEach((loss, step) => assert(Math.abs(loss / other.losses[step] - 1) < 1e-3));
  });
}

Deno.test("bf16 with an odd width is refused by the key of the config", () => {
  const [{ device }] = devices;
  for (
    const [key, more] of [["intermediate_size = 21", { intermediate_size: 21 }], [
      "hidden_size = 13",
      { hidden_size: 13 },
    ]] as const
  ) {
    const config = smallConfig(more);
    const make = () =>
      new Parameters(device, config, wholeModel(config), { training: false, precision: "bf16" });
    assertThrows(make, ModelError, key);
  }
});

for (const { kind, device } of devices) {
  Deno.test(`${kind}: weights that are put after a pass are those that the next pass uses`, async () => {
    const config = kinds.experts, source = memorySource(config, randomWeights(config, 1));
    const model = await LoadedModel.load(device, source, { precision: "bf16" });
    const fresh = await LoadedModel.load(device, memorySource(config, randomWeights(config, 2)), {
      precision: "bf16",
    });
    try {
      const { sequences } = batch(config.vocabSize);
      const before = await model.forwardLogits(sequences);
      for (const [name, words] of randomWeights(config, 2)) model.parameters.put(name, "weight", 0, words);
      const after = await model.forwardLogits(sequences);
      assertEquals(after, await fresh.forwardLogits(sequences));
      assert(distance(before, after) > 0.1);
    } finally {
      model.release();
      fresh.release();
    }
  });
}
