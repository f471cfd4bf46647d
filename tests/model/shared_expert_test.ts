/** A shared expert on both devices: forward and backward against the model in f64, and the loss across upcycling. */
import { assert, assertAlmostEquals } from "@std/assert";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { parameterTable } from "../../model/tensors.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { devices } from "./devices.ts";
import { assertGradients } from "./gradients.ts";
import { distance, logitsF64, lossF64 } from "./float64_model.ts";
import { memorySource, randomWeights, smallConfig } from "./models.ts";

const ids = Uint32Array.of(3, 1, 16, 0, 7, 9), labels = Uint32Array.of(1, 16, 0, 7, 9, 2);
const text = { ids, batch: 1, sequence: 6 };

for (const { kind, device } of devices) {
  for (const chosen of [1, 2]) {
    Deno.test(`${kind}: a shared expert beside ${chosen} of 3: logits and gradients are those in f64`, async () => {
      const config = smallConfig({
        num_local_experts: 3,
        num_experts_per_tok: chosen,
        shared_expert_intermediate_size: 7,
      });
      const weights = randomWeights(config, 5);
      const model = await LoadedModel.load(device, memorySource(config, weights), { training: true });
      try {
        const words = await model.forwardLogits(text), V = config.vocabSize;
        const rows = Array.from(ids, (_, t) => words.subarray(t * V, (t + 1) * V));
        assert(distance(logitsF64(config, weights, [...ids]), rows) < 1e-5);
        const { ce } = await model.gradients(text, labels);
        assertAlmostEquals(ce, lossF64(config, weights, ids, labels), 1e-5);
        const most = await assertGradients(
          model,
          config,
          weights,
          (moved) => lossF64(config, moved, ids, labels),
        );
        for (const [name, largest] of most) {
          if (name.includes("shared_expert")) assert(largest > 1e-4, `${name}: ${largest}`);
        }
      } finally {
        model.release();
      }
    });
  }

  Deno.test(`${kind}: upcycling with a shared expert keeps the loss, and all of it trains on`, async () => {
    const config = smallConfig(), dense = memorySource(config, randomWeights(config));
    const loss = async (source: typeof dense) => {
      const model = await LoadedModel.load(device, source);
      try {
        return (await model.loss(text, labels)).ce;
      } finally {
        model.release();
      }
    };
    const before = await loss(dense);
    const target = upcycledConfig(config, { experts: 4, expertsPerToken: 2, shared: true });
    for (const share of [undefined, 0.25, 0.7]) {
      const after = upcycleModel(dense, target, { seed: 1, routerDeviation: 0.5, share });
      assertAlmostEquals(await loss(after), before, 1e-5);
    }
    const upcycled = upcycleModel(dense, target, { seed: 1 });
    const model = await LoadedModel.load(device, upcycled, { training: true });
    try {
      const settings = {
        learningRate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0,
        clipNorm: 1,
      };
      for (let step = 1; step <= 5; step++) {
        assert((await model.step(text, labels, { ...settings, step })).committed);
      }
      assert((await model.loss(text, labels)).ce < before - 0.1);
      for (const { name } of parameterTable(target).filter(({ role }) => role.startsWith("shared"))) {
        const words = await model.parameters.get(name, "weight");
        const old = await upcycled.read(name, 0, words.length);
        assert(words.every((word, i) => word !== old[i]), `${name} did not move everywhere`);
      }
    } finally {
      model.release();
    }
  });
}
