/** Growth on the devices in f32: what keeps the function keeps logits to 1e-5, and what training does to copies. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type Device, referenceDevice } from "../../kernels/mod.ts";
import type { ModelConfig } from "../../model/config.ts";
import { growModel, type GrowthOptions } from "../../model/growth/growth.ts";
import { inspectModel } from "../../model/checkpoint/inspect.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { TensorSource } from "../../model/source.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { devices } from "./devices.ts";
import { distance } from "./float64_model.ts";
import { growingPair, growthShapes, type Shapes } from "./growing.ts";
import { memorySource, randomWeights, smallConfig } from "./models.ts";

const plainArrays = referenceDevice();
Deno.test.afterAll(() => plainArrays.close());

const ids = Uint32Array.of(3, 1, 16, 3, 0, 7, 9, 9, 2, 11);

async function logits(device: Device, source: TensorSource): Promise<number[][]> {
  const model = await LoadedModel.load(device, source);
  try {
    const words = await model.forwardLogits({ ids, batch: 2, sequence: 5 });
    const V = source.config.vocabSize;
    return Array.from({ length: ids.length }, (_, t) => [...words.subarray(t * V, (t + 1) * V)]);
  } finally {
    model.release();
  }
}

/** Relative distance of the logits of two models. */
async function change(device: Device, before: TensorSource, after: TensorSource): Promise<number> {
  return distance(
    (await logits(device, before)).map((row) => Float64Array.from(row)),
    (await logits(device, after)).map((row) => Float64Array.from(row)),
  );
}

const shapes = growthShapes({ least: 2, noise: 0.01 });

function pair(x: Shapes, hiddenSize: number): [TensorSource, ModelConfig] {
  const [source, target] = growingPair(x, hiddenSize);
  return [memorySource(source, randomWeights(source, x.seed)), target];
}

for (
  const [what, width, hiddenSize] of [
    ["FPI at integer widths and identity depth: the same logits in f32", "copies", (x) => x.d * x.times],
    ["scaled copies at any width: the same logits in f32", "scaled-copies", (x) => x.d + x.hidden],
  ] satisfies [string, GrowthOptions["width"], (x: Shapes) => number][]
) {
  Deno.test(what, async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async (x) => {
        const [source, target] = pair(x, hiddenSize(x)), { spread, noise } = x;
        const options: GrowthOptions = { method: "fpi", depth: "identity", width, spread, noise };
        assert(await change(plainArrays, source, growModel(source, target, options)) < 1e-5);
      }),
      { numRuns: 40, seed: 2 },
    );
  });
}

Deno.test("upcycling: the same logits in f32 for every router", async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      fc.integer({ min: 1, max: 6 }),
      fc.nat(5),
      fc.double({ min: 0, max: 3, noNaN: true }),
      async (x, experts, chosen, routerDeviation) => {
        const [source] = pair(x, x.d);
        const target = upcycledConfig(source.config, { experts, expertsPerToken: 1 + chosen % experts });
        const after = upcycleModel(source, target, { seed: x.seed, routerDeviation });
        assert(await change(plainArrays, source, after) < 1e-5);
      },
    ),
    { numRuns: 30, seed: 2 },
  );
});

const source = smallConfig({ num_hidden_layers: 3 }), weights = randomWeights(source);
const wide: ModelConfig = { ...source, hiddenSize: 24, intermediateSize: 40, heads: 8 };

/** Trains a few steps and answers with how many units of each kind are distinct, the layers together. */
async function trained(device: Device, model: TensorSource, steps: number): Promise<Record<string, string>> {
  const loaded = await LoadedModel.load(device, model, { training: true });
  try {
    const labels = Uint32Array.from(ids, (id) => (id + 5) % 17);
    for (let step = 1; step <= steps; step++) {
      const { committed } = await loaded.step({ ids, batch: 2, sequence: 5 }, labels, {
        learningRate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0.1,
        clipNorm: 1,
        step,
      });
      assert(committed);
    }
    const report = await inspectModel({
      config: model.config,
      read: (name, start, length) => loaded.parameters.get(name, "weight", start, length),
    });
    const sums: Record<string, string> = {};
    for (const unit of ["hidden", "neurons", "heads", "experts"]) {
      const all = report.units.filter((found) => found.unit === unit);
      if (all.length === 0) continue;
      sums[unit] = `${all.reduce((n, { distinct }) => n + distinct, 0)} of ` +
        `${all.reduce((n, { units }) => n + units, 0)}`;
    }
    return sums;
  } finally {
    loaded.release();
  }
}

for (const { kind, device } of devices) {
  Deno.test(`exact copies stay equal through training, AKI's and broken symmetries part (${kind})`, async () => {
    const grow = (options: Partial<GrowthOptions>) =>
      growModel(memorySource(source, weights), wide, {
        method: "fpi",
        depth: "identity",
        width: "copies",
        ...options,
      });
    const copies = { hidden: "12 of 24", neurons: "60 of 120", heads: "12 of 24" };
    const apart = { hidden: "24 of 24", neurons: "120 of 120", heads: "24 of 24" };
    assertEquals(await trained(device, grow({}), 0), copies);
    assertEquals(await trained(device, grow({}), 4), copies);
    // AKI's last layer is FPI's: its own heads and neurons stay copies.
    const aki = { hidden: "24 of 24", neurons: "100 of 120", heads: "20 of 24" };
    assertEquals(await trained(device, grow({ method: "aki" }), 4), aki);
    // Rows that write stay copies at first; what reads them differs, so the first step parts them.
    for (const options of [{ spread: 0.5 }, { noise: 0.01 }]) {
      assertEquals(await trained(device, grow({ ...options, seed: 3 }), 4), apart, JSON.stringify(options));
    }
  });

  Deno.test(`experts are copies until training parts them (${kind})`, async () => {
    const dense = memorySource(source, weights);
    const model = upcycleModel(dense, upcycledConfig(source, { experts: 4, expertsPerToken: 2 }), {
      seed: 1,
    });
    assertEquals((await trained(device, model, 0)).experts, "3 of 12");
    assertEquals((await trained(device, model, 4)).experts, "12 of 12");
  });
}
