/** Upcycling: any router keeps the function; what breaks the experts' symmetry does only that. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { ModelConfig } from "../../model/config.ts";
import { GrowthError } from "../../model/errors.ts";
import { drawNormal } from "../../model/init.ts";
import { parameterTable } from "../../model/tensors.ts";
import { upcycledConfig, upcycleModel, type UpcycleOptions } from "../../model/growth/upcycle.ts";
import { droppedNeurons } from "../../model/growth/upcycle_drop.ts";
import { distance, logitsF64 } from "./float64_model.ts";
import { memorySource, randomWeights, readAll, smallConfig } from "./models.ts";

const source = smallConfig(), weights = randomWeights(source), ids = [5, 0, 16, 2];
const target = upcycledConfig(source, { experts: 4, expertsPerToken: 2 });

function upcycle(to: ModelConfig, options: UpcycleOptions, from = source, words = weights) {
  return readAll(upcycleModel(memorySource(from, words), to, options));
}

Deno.test("every router keeps the logits", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6 }),
      fc.nat(5),
      fc.nat(1000),
      fc.double({ min: 0, max: 3, noNaN: true }),
      fc.boolean(),
      async (experts, chosen, seed, routerDeviation, tied) => {
        const dense = smallConfig({ tie_word_embeddings: tied }), words = randomWeights(dense, seed);
        const to = upcycledConfig(dense, { experts, expertsPerToken: 1 + chosen % experts });
        const after = await upcycle(to, { seed, routerDeviation }, dense, words);
        assert(distance(logitsF64(dense, words, ids), logitsF64(to, after, ids)) < 1e-12);
      },
    ),
    { numRuns: 40, seed: 1 },
  );
});

Deno.test("experts are copies and routers have their deviation, or are those given", async () => {
  const after = await upcycle(target, { seed: 3 });
  assertEquals([...after.keys()], parameterTable(target).map(({ name }) => name));
  const p = "model.layers.1.block_sparse_moe.";
  for (const [leaf, dense] of [["w1", "gate"], ["w2", "down"], ["w3", "up"]]) {
    for (let e = 0; e < 4; e++) {
      assertEquals(
        after.get(`${p}experts.${e}.${leaf}.weight`),
        weights.get(`model.layers.1.mlp.${dense}_proj.weight`),
      );
    }
  }
  const name = p + "gate.weight";
  assertEquals(after.get(name), drawNormal(3, name, 0, 48, 0.02));
  assertEquals(
    (await upcycle(target, { seed: 3, routerDeviation: 0.04 })).get(name),
    after.get(name)!.map((word) => word * 2),
  );
  const router = new Map(
    [0, 1].map((l) => [`model.layers.${l}.block_sparse_moe.gate.weight`, new Float32Array(48).fill(l + 1)]),
  );
  assertEquals((await upcycle(target, { seed: 3, router })).get(name), new Float32Array(48).fill(2));
});

Deno.test("Drop-Upcycling draws the same neurons anew in all three matrices, others stay", async () => {
  const after = await upcycle(target, { seed: 9, drop: 0.3 });
  for (let e = 0; e < 4; e++) {
    const p = `model.layers.0.block_sparse_moe.experts.${e}.`,
      dropped = new Set(droppedNeurons(20, 0.3, 9, 0, e));
    assertEquals(dropped.size, 6);
    for (const [leaf, dense] of [["w1", "gate"], ["w2", "down"], ["w3", "up"]]) {
      const words = after.get(`${p}${leaf}.weight`)!,
        old = weights.get(`model.layers.0.mlp.${dense}_proj.weight`)!;
      words.forEach((word, i) => {
        const neuron = leaf === "w2" ? i % 20 : Math.floor(i / 12);
        assertEquals(word !== old[i], dropped.has(neuron), `${leaf} ${i}`);
      });
    }
  }
  assertNotEquals(droppedNeurons(20, 0.3, 9, 0, 0), droppedNeurons(20, 0.3, 9, 0, 1));
  assertEquals(droppedNeurons(20, 1, 9, 0, 0), Uint32Array.from({ length: 20 }, (_, i) => i));
});

Deno.test("redrawn neurons have the mean and deviation of those that they replace", async () => {
  const dense = smallConfig({ hidden_size: 100, intermediate_size: 400, num_hidden_layers: 1 }),
    words = randomWeights(dense);
  const gate = "model.layers.0.mlp.gate_proj.weight";
  words.set(gate, words.get(gate)!.map((word) => 0.3 + word));
  const to = upcycledConfig(dense, { experts: 1, expertsPerToken: 1 });
  const drawn = await upcycle(to, { seed: 1, drop: 1 }, dense, words);
  const after = drawn.get("model.layers.0.block_sparse_moe.experts.0.w1.weight")!;
  const mean = after.reduce((sum, word) => sum + word, 0) / after.length;
  const deviation = Math.sqrt(after.reduce((sum, word) => sum + (word - mean) ** 2, 0) / after.length);
  assert(Math.abs(mean - 0.3) < 0.005 && Math.abs(deviation - 0.2) < 0.005, `${mean} ${deviation}`);
});

Deno.test("noise parts the experts by its deviation and touches nothing else", async () => {
  const after = await upcycle(target, { seed: 9, noise: 0.01 });
  const a = after.get("model.layers.0.block_sparse_moe.experts.0.w1.weight")!;
  const b = after.get("model.layers.0.block_sparse_moe.experts.1.w1.weight")!;
  const difference = Math.sqrt(a.reduce((sum, word, i) => sum + (word - b[i]) ** 2, 0) / a.length);
  assert(Math.abs(difference / (0.01 * Math.SQRT2) - 1) < 0.2, `${difference}`);
  const q = "model.layers.0.self_attn.q_proj.weight";
  assertEquals(after.get(q), weights.get(q));
});

Deno.test("read in any ranges it is the same", async () => {
  for (const options of [{ seed: 4 }, { seed: 4, noise: 0.1, drop: 0.5 }]) {
    const whole = await upcycle(target, options),
      model = upcycleModel(memorySource(source, weights), target, options);
    for (const [name, words] of whole) assertEquals(await model.read(name, 5, 4), words.slice(5, 9), name);
  }
});

Deno.test("the family of the result is one that has such models", () => {
  const shape = { experts: 4, expertsPerToken: 2 };
  const type = (json: Record<string, unknown>) => upcycledConfig(smallConfig(json), shape).modelType;
  assertEquals(type({}), "volary");
  assertEquals(type({ model_type: "llama", attention_bias: false }), "mixtral");
  assertEquals(type({ model_type: "qwen2" }), "aquilamoe");
  const shared = upcycledConfig(smallConfig({ model_type: "qwen2" }), { ...shape, shared: true });
  assertEquals([shared.modelType, shared.sharedExpert], ["volary", 20]);
});

const sharing = upcycledConfig(source, { experts: 4, expertsPerToken: 2, shared: true });

Deno.test("a shared expert keeps the logits: exactly for a half, else up to one rounding", async () => {
  const before = logitsF64(source, weights, ids);
  const change = async (share?: number) =>
    distance(before, logitsF64(sharing, await upcycle(sharing, { seed: 2, routerDeviation: 1, share }), ids));
  for (const [share, most] of [[undefined, 1e-12], [0.5, 1e-12], [0.1, 1e-7], [0.3, 1e-7], [0.999, 1e-7]]) {
    const changed = await change(share);
    assert(changed < most!, `${share}: ${changed}`);
  }
});

Deno.test("shared and routed experts are copies whose down projections share the output", async () => {
  const p = "model.layers.1.block_sparse_moe.", dense = "model.layers.1.mlp.";
  for (const share of [0.5, 0.3]) {
    const after = await upcycle(sharing, { seed: 3, share }), down = weights.get(`${dense}down_proj.weight`)!;
    assertEquals([...after.keys()], parameterTable(sharing).map(({ name }) => name));
    for (const expert of ["shared_expert.", "experts.0.", "experts.3."]) {
      assertEquals(after.get(`${p}${expert}w1.weight`), weights.get(`${dense}gate_proj.weight`));
      assertEquals(after.get(`${p}${expert}w3.weight`), weights.get(`${dense}up_proj.weight`));
      const factor = expert === "shared_expert." ? share : 1 - share;
      assertEquals(after.get(`${p}${expert}w2.weight`), down.map((word) => word * factor));
    }
  }
});

Deno.test("noise and Drop-Upcycling leave the shared expert whole; in any ranges it is the same", async () => {
  const plain = await upcycle(sharing, { seed: 4, share: 0.3 });
  for (const options of [{ seed: 4, share: 0.3, noise: 0.1 }, { seed: 4, share: 0.3, drop: 0.5 }]) {
    const whole = await upcycle(sharing, options);
    for (const [name, words] of whole) {
      assertEquals(words.some((word, i) => word !== plain.get(name)![i]), name.includes(".experts."), name);
    }
    const model = upcycleModel(memorySource(source, weights), sharing, options);
    for (const [name, words] of whole) assertEquals(await model.read(name, 5, 4), words.slice(5, 9), name);
  }
});

Deno.test("what does not fit is refused", () => {
  const refuse = (run: () => unknown, part: string) => assertThrows(run, GrowthError, part);
  refuse(() => upcycledConfig(target, { experts: 4, expertsPerToken: 2 }), "has 4 experts already");
  refuse(() => upcycledConfig(source, { experts: 4, expertsPerToken: 5 }), "visit 5 experts");
  refuse(() => upcycledConfig(source, { experts: 0, expertsPerToken: 0 }), "at least 1 expert");
  refuse(() => upcycle({ ...target, hiddenSize: 24 }, { seed: 1 }), "hiddenSize must stay 12");
  refuse(() => upcycle(target, { seed: 1, drop: 1.5 }), "draw anew is 1.5");
  refuse(() => upcycle(target, { seed: 1, noise: -1 }), "noise is -1");
  refuse(() => upcycle(target, { seed: 1, routerDeviation: NaN }), "deviation is NaN");
  for (const share of [0, 1, -0.5, NaN]) {
    refuse(() => upcycle(sharing, { seed: 1, share }), `share is ${share}; it must lie above 0 and below 1`);
  }
  refuse(() => upcycle(target, { seed: 1, share: 0.5 }), "the upcycled model is to have none");
  refuse(() => upcycle({ ...sharing, sharedExpert: 8 }, { seed: 1 }), "its width must be 20");
  refuse(() => upcycle(target, { seed: 1, router: new Map() }), "routers lack model.layers.0");
  const short = new Map([["model.layers.0.block_sparse_moe.gate.weight", new Float32Array(3)]]);
  refuse(() => upcycle(target, { seed: 1, router: short }), "has 3 values; [4, 12]");
});
