/** Models with layers missing: what is left computes what the whole does where those layers add nothing. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { ModelError } from "../../model/errors.ts";
import { keptLayers, onlyLayers } from "../../model/fewer_layers.ts";
import { parameterTable } from "../../model/tensors.ts";
import { distance, logitsF64 } from "./float64_model.ts";
import { memorySource, randomWeights, readAll, smallConfig } from "./models.ts";

const experts = { num_local_experts: 3, num_experts_per_tok: 2, tie_word_embeddings: true };

for (const [what, more] of [["dense", {}], ["experts, tied", experts]] as const) {
  Deno.test(`${what}: without two layers = layers that add nothing to the stream`, async () => {
    const config = smallConfig({ num_hidden_layers: 5, ...more }), weights = randomWeights(config);
    const silent = new Map(weights), gone = [1, 4], ids = [3, 1, 16, 0, 7];
    for (const { name, layer, role } of parameterTable(config)) {
      if (!gone.includes(layer) || !["o-weight", "down", "expert-down"].includes(role)) continue;
      silent.set(name, new Float32Array(weights.get(name)!.length));
    }
    const fewer = onlyLayers(memorySource(config, weights), [0, 2, 3]);
    assertEquals(fewer.config, { ...config, layers: 3 });
    const logits = logitsF64(fewer.config, await readAll(fewer), ids);
    assertEquals(distance(logits, logitsF64(config, silent, ids)), 0);
    assert(distance(logits, logitsF64(config, weights, ids)) > 0.01, "the layers mattered");
  });
}

Deno.test("a model of which all layers stay is the model", async () => {
  const config = smallConfig(), weights = randomWeights(config);
  const all = onlyLayers(memorySource(config, weights), [0, 1]);
  assertEquals(await readAll(all), weights);
  assertNotEquals(await readAll(onlyLayers(all, [1])), weights);
});

Deno.test("the first layer stays, the others are spread evenly", () => {
  assertEquals(keptLayers(8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
  assertEquals(keptLayers(8, 6), [0, 1, 2, 4, 5, 6]);
  assertEquals(keptLayers(8, 4), [0, 2, 4, 6]);
  assertEquals(keptLayers(7, 1), [0]);
  for (const count of [0, 9, 1.5, NaN]) assertThrows(() => keptLayers(8, count), ModelError, "from 1 to 8");
});

Deno.test("layers that a model does not have are refused by number", () => {
  const source = memorySource(smallConfig(), new Map());
  for (const kept of [[2], [-1], [0, 0], [1, 0], [0.5]]) {
    assertThrows(() => onlyLayers(source, kept), ModelError, `layer ${kept.at(-1)} of`);
  }
  assertThrows(() => onlyLayers(source, []), ModelError, "at least one");
});
