/** The ladder residual on both devices: against the model in f64, over borders and in what overlaps. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { configToJson, parseConfig, plainestType } from "../../model/config.ts";
import { Decoder } from "../../model/text/decoder.ts";
import { ConfigError } from "../../model/errors.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { EXPERTS, run as runRounds, SMALL } from "./small_run.ts";
import { Witness } from "../on_device.ts";
import { devices } from "./devices.ts";
import { assertGradients } from "./gradients.ts";
import { distance, logitsF64, lossF64 } from "./float64_model.ts";
import { memorySource, randomWeights, smallConfig, smallJson } from "./models.ts";

const ids = Uint32Array.of(3, 1, 16, 0, 7, 9), labels = Uint32Array.of(1, 16, 0, 7, 9, 2);
const text = { ids, batch: 1, sequence: 6 };
const ladder = { num_hidden_layers: 3, num_local_experts: 3, num_experts_per_tok: 2, ladder_residual: true };

for (const { kind, device } of devices) {
  for (const recompute of [false, true]) {
    Deno.test(`${kind}: a ladder residual${recompute ? ", recomputed" : ""}: logits and gradients are those in f64`, async () => {
      // Without the router's losses: the loss in f64 is the cross-entropy alone.
      const config = smallConfig({ ...ladder, shared_expert_intermediate_size: 7 }),
        weights = randomWeights(config, 5);
      const model = await LoadedModel.load(device, memorySource(config, weights), {
        training: true,
        recompute,
      });
      try {
        const words = await model.forwardLogits(text), V = config.vocabSize;
        const rows = Array.from(ids, (_, t) => words.subarray(t * V, (t + 1) * V));
        assert(distance(logitsF64(config, weights, [...ids]), rows) < 1e-5);
        assert(distance(logitsF64({ ...config, ladderResidual: false }, weights, [...ids]), rows) > 1e-2);
        const decoder = new Decoder(model, 6);
        await decoder.extend(ids.slice(0, 4));
        await decoder.extend(ids.slice(4, 5));
        assert(distance([rows[5]], [await decoder.extend(ids.slice(5))]) < 1e-5, "token by token");
        decoder.release();
        const { ce } = await model.gradients(text, labels);
        assertAlmostEquals(ce, lossF64(config, weights, ids, labels), 1e-5);
        await assertGradients(model, config, weights, (moved) => lossF64(config, moved, ids, labels));
      } finally {
        model.release();
      }
    });
  }
}

for (const { kind, device } of devices) {
  Deno.test(`${kind}: while rows are away attention computes with a ladder residual, and only then`, async () => {
    const during = async (ladder: boolean) => {
      const seen: string[] = [], met: string[] = [];
      const witness = new Witness(device, ({ name }) => seen.push(name));
      const experts = Array.from({ length: 3 }, () => ["host", "a", "host", "host"]);
      await runRounds(witness, {
        model: { ...SMALL, ...EXPERTS, ladder_residual: ladder },
        stages: [{ worker: "a", from: 0, to: 3, embedding: true, head: true, experts }],
        steps: 1,
        onExchange: async ({ layer, pass, mode }) => {
          const before = seen.length;
          await new Promise((resolve) => setTimeout(resolve, 20));
          const names = seen.slice(before).filter((name) => /^attention(BackwardQ)?$/.test(name));
          if (mode === "train") met.push(`${pass} ${layer}: ${names.join()}`);
        },
      });
      witness.close();
      return [...new Set(met)];
    };
    assertEquals(
      await during(false),
      [0, 1, 2].map((l) => `forward ${l}: `).concat([2, 1, 0].map((l) => `backward ${l}: `)),
    );
    assertEquals(await during(true), [
      "forward 0: attention",
      "forward 1: attention",
      "forward 2: ", // no layer behind it
      "backward 2: ",
      "backward 1: attentionBackwardQ",
      "backward 0: attentionBackwardQ",
    ]);
  });
}

Deno.test("a ladder residual is a key of the configuration, of our own type and for experts only", () => {
  const config = parseConfig(smallJson(ladder));
  assertEquals(parseConfig(configToJson(config)), config);
  assertEquals(plainestType(config), "volary");
  const { ladder_residual: _, ...plain } = configToJson(config);
  assertEquals(parseConfig(plain), { ...config, ladderResidual: false });
  assert(!("ladder_residual" in configToJson(smallConfig({ ...ladder, ladder_residual: false }))));
  for (
    const [more, says] of [
      [{ num_local_experts: 0, num_experts_per_tok: 0 }, "the model is dense"],
      [{ model_type: "aquilamoe" }, "models of type aquilamoe"],
      [{ ladder_residual: 1 }, "true or false"],
    ] as const
  ) assertThrows(() => parseConfig(smallJson({ ...ladder, ...more })), ConfigError, says);
});
