/** What inspect finds: norms, copies, silent layers, routers, weights that are not finite. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { growModel } from "../../model/growth/growth.ts";
import { inspectModel } from "../../model/checkpoint/inspect.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { memorySource, randomWeights, smallConfig } from "./models.ts";

const config = smallConfig({ num_hidden_layers: 2 }), weights = randomWeights(config);
const source = memorySource(config, weights);

Deno.test("norms are those of the tensors, and nothing of a random model is a copy", async () => {
  const report = await inspectModel(source);
  assertEquals(report.tensors.map(({ name }) => name), [...weights.keys()]);
  for (const { name, norm, rms, most, zeros } of report.tensors) {
    const words = weights.get(name)!, squares = words.reduce((sum, word) => sum + word * word, 0);
    assertAlmostEquals(norm!, Math.sqrt(squares), 1e-5);
    assertAlmostEquals(rms!, Math.sqrt(squares / words.length), 1e-5);
    assertEquals(most, words.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
    assertEquals(zeros, 0);
  }
  assert(report.units.length > 0 && report.units.every(({ units, distinct }) => units === distinct));
  assertEquals([report.silentLayers, report.routers], [[], []]);
});

Deno.test("copies and silent layers of a grown model are counted, layer by layer", async () => {
  const target = { ...config, hiddenSize: 24, intermediateSize: 27, heads: 6, layers: 4 };
  const grown = growModel(source, target, { method: "fpi", depth: "identity", width: "copies" });
  const { units, silentLayers } = await inspectModel(grown);
  const found = (unit: string, layer?: number) => units.find((u) => u.unit === unit && u.layer === layer);
  assertEquals(found("hidden"), { unit: "hidden", units: 24, distinct: 12 });
  for (let layer = 0; layer < 4; layer++) {
    assertEquals(found("neurons", layer), { unit: "neurons", layer, units: 27, distinct: 20 });
    assertEquals(found("heads", layer), { unit: "heads", layer, units: 6, distinct: 4 });
    assertEquals(found("kv-heads", layer), { unit: "kv-heads", layer, units: 2, distinct: 2 });
  }
  assertEquals(silentLayers, [1, 3]);
});

Deno.test("experts that are copies, and the routers' statistics", async () => {
  const moe = upcycledConfig(config, { experts: 4, expertsPerToken: 2 });
  const router = new Map([0, 1].map((layer) => {
    // Rows 3, 4, 0 and (as the first) 6 times a unit vector.
    const words = new Float32Array(48);
    [[0, 0, 3], [1, 1, 4], [3, 0, 6]].forEach(([row, column, value]) => words[row * 12 + column] = value);
    return [`model.layers.${layer}.block_sparse_moe.gate.weight`, words];
  }));
  const report = await inspectModel(upcycleModel(source, moe, { seed: 1, router }));
  for (const layer of [0, 1]) {
    const of = (unit: string) => report.units.find((u) => u.unit === unit && u.layer === layer)!;
    assertEquals([of("experts").units, of("experts").distinct], [4, 1]);
    assertEquals([of("neurons").units, of("neurons").distinct], [80, 80], "within their own expert");
  }
  const { deviation, ...rest } = report.routers[1];
  assertEquals(rest, { layer: 1, least: 0, most: 6, closest: 1 });
  assertAlmostEquals(deviation, Math.sqrt((9 + 16 + 36) / 48 - (13 / 48) ** 2), 1e-6);
  const parted = await inspectModel(upcycleModel(source, moe, { seed: 1, noise: 1e-6 }));
  assertEquals(parted.units.filter(({ unit }) => unit === "experts").map(({ distinct }) => distinct), [4, 4]);
});

Deno.test("a shared expert is counted by its neurons, and speaks for its layer", async () => {
  const moe = upcycledConfig(config, { experts: 4, expertsPerToken: 2, shared: true });
  const words = randomWeights({ ...moe, sharedExpert: 7 });
  for (const name of words.keys()) {
    if (/o_proj|\.experts\.\d\.w2/.test(name)) words.get(name)!.fill(0);
  }
  const shared = "model.layers.0.block_sparse_moe.shared_expert.";
  for (const leaf of ["w1", "w3"]) words.get(`${shared}${leaf}.weight`)!.copyWithin(12, 0, 12);
  const quiet = await inspectModel(memorySource({ ...moe, sharedExpert: 7 }, words));
  assertEquals(quiet.silentLayers, []);
  const neurons = quiet.units.filter(({ unit }) => unit === "neurons");
  assertEquals(neurons.map(({ units, distinct }) => [units, distinct]), [[87, 86], [87, 87]]);
  words.get(`${shared}w2.weight`)!.fill(0);
  assertEquals((await inspectModel(memorySource({ ...moe, sharedExpert: 7 }, words))).silentLayers, [0]);
});

Deno.test("one value that is not finite marks its tensor and no other", async () => {
  for (const value of [NaN, Infinity]) {
    const broken = new Map(weights), name = "model.layers.1.mlp.up_proj.weight";
    broken.set(name, weights.get(name)!.slice());
    broken.get(name)![5] = value;
    const { tensors } = await inspectModel(memorySource(config, broken));
    assertEquals(tensors.filter(({ norm }) => norm === null).map(({ name }) => name), [name]);
    assertEquals(tensors.find((tensor) => tensor.name === name)!.most, null);
  }
});
