/** Models in and out of folders: lossless, checked, whole or not at all. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { modelCard, type Provenance } from "../../model/checkpoint/card.ts";
import { summarizeChange } from "../../model/growth/change.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { decodeWords, encodeWords } from "../../model/dtypes.ts";
import { CheckpointError } from "../../model/errors.ts";
import { growModel } from "../../model/growth/growth.ts";
import { asStored, forExport, storedFormat, writeModel } from "../../model/checkpoint/interchange.ts";
import { provenanceFiles, readProvenance, statedLicense } from "../../model/checkpoint/provenance.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { memorySource, randomWeights, readAll, smallConfig } from "./models.ts";

const config = smallConfig(), weights = randomWeights(config), source = memorySource(config, weights);

Deno.test("bf16 and f16 folders go through f32 and back without losing a bit", async () => {
  for (const dtype of ["BF16", "F16", "F32"] as const) {
    const files = new MemoryStorage();
    await writeModel(files, "a", source, { dtype: () => dtype });
    const first = await openCheckpoint(files, "a");
    await writeModel(files, "b", first, { dtype: storedFormat(first) });
    assertEquals(files.files.get("b/model.safetensors"), files.files.get("a/model.safetensors"));
    const name = "lm_head.weight", rounded = decodeWords(dtype, encodeWords(dtype, weights.get(name)!));
    assertEquals(await first.read(name, 0, rounded.length), rounded);
    assertStringIncludes(
      files.string("a/config.json"),
      { BF16: "bfloat16", F16: "float16", F32: "float32" }[dtype],
    );
  }
});

Deno.test("grow, save, open, upcycle, save, open: the same as in memory", async () => {
  const files = new MemoryStorage();
  const wide = { ...config, hiddenSize: 24, heads: 8, layers: 3 };
  const grown = growModel(source, wide, { method: "fpi", depth: "identity", width: "copies" });
  await writeModel(files, "grown", grown, { shardBytes: 4000 });
  const opened = await openCheckpoint(files, "grown");
  assertEquals(await readAll(opened), await readAll(grown));
  const moe = upcycledConfig(opened.config, { experts: 3, expertsPerToken: 2 });
  const upcycled = upcycleModel(opened, moe, { seed: 1 });
  const progress: number[] = [];
  await writeModel(files, "moe", upcycled, {
    onProgress: (written, total) => progress.push(written / total),
  });
  assertEquals(await readAll(await openCheckpoint(files, "moe")), await readAll(upcycled));
  assertEquals(progress.at(-1), 1);
  assertEquals(progress, [...progress].sort((a, b) => a - b));
});

Deno.test("exports carry the type of a family that computes all of the model", async () => {
  const files = new MemoryStorage();
  await writeModel(files, "m", forExport(source));
  const json = JSON.parse(files.string("m/config.json"));
  assertEquals([json.model_type, json.architectures], ["qwen2", ["Qwen2ForCausalLM"]]);
  assertEquals(await readAll(await openCheckpoint(files, "m")), weights);
});

Deno.test("a type that would lose something, or that nobody would compute alike, is refused", () => {
  const plain = memorySource(smallConfig({ attention_bias: false }), weights);
  const moe = upcycledConfig(config, { experts: 3, expertsPerToken: 2 });
  const experts = memorySource({ ...moe, attentionBias: false }, weights);
  const refuse = (run: () => unknown, part: string) => assertThrows(run, CheckpointError, part);
  refuse(() => forExport(memorySource(moe, weights), "mixtral"), "models of type mixtral have no biases");
  refuse(() => forExport(experts, "qwen2"), "cannot be exported as qwen2: num_local_experts is 3");
  refuse(() => forExport(source, "llama"), "cannot be exported as llama: attention_bias is true");
  refuse(() => forExport(plain, "qwen2"), "models of type qwen2 always have biases");
  refuse(() => forExport(source, "aquilamoe"), "cannot be exported as aquilamoe");
  assertEquals(forExport(source, "aquiladense").config.modelType, "aquiladense");
  assertEquals(forExport(memorySource(moe, weights)).config.modelType, "aquilamoe");
  assertEquals(forExport(experts).config.modelType, "mixtral");
});

Deno.test("a shared expert goes out and comes back; plain Mixtral would lose it", async () => {
  const moe = upcycledConfig({ ...config, modelType: "qwen2" }, {
    experts: 3,
    expertsPerToken: 2,
    shared: true,
  });
  const words = randomWeights(moe), shared = memorySource(moe, words);
  for (const type of [undefined, "volary", "aquilamoe"] as const) {
    const files = new MemoryStorage();
    await writeModel(files, "m", forExport(shared, type));
    assertEquals(JSON.parse(files.string("m/config.json")).shared_expert_intermediate_size, 20);
    const back = await openCheckpoint(files, "m");
    assertEquals(back.config, { ...moe, modelType: type ?? "volary" });
    assertEquals(await readAll(back), words);
    // Without the key the tensors are too many, not passed over.
    const { shared_expert_intermediate_size: _, ...without } = JSON.parse(files.string("m/config.json"));
    files.text("m/config.json", JSON.stringify(without));
    await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "shared_expert");
  }
  const plain = memorySource({ ...moe, attentionBias: false }, words);
  assertThrows(() => forExport(plain, "mixtral"), CheckpointError, "have no shared expert and would lose it");
  const card = modelCard(moe, { name: "m", steps: [], data: [], losses: [] });
  assertStringIncludes(card, "3 experts, 2 a token, beside a shared expert of width 20");
});

Deno.test("as stored: what will be read back, before anything is written", async () => {
  const files = new MemoryStorage();
  for (const dtype of ["BF16", "F16", "F32"] as const) {
    await writeModel(files, dtype, source, { dtype: () => dtype });
    assertEquals(
      await readAll(asStored(source, () => dtype)),
      await readAll(await openCheckpoint(files, dtype)),
    );
  }
});

Deno.test("NaN, overflow, interruption: named, and nothing is left", async () => {
  const files = new MemoryStorage();
  const bad = new Map(weights).set("model.norm.weight", new Float32Array(12).fill(1));
  bad.get("model.norm.weight")![7] = NaN;
  await assertRejects(
    () => writeModel(files, "m", memorySource(config, bad)),
    CheckpointError,
    "model.norm.weight holds NaN at element 7",
  );
  bad.get("model.norm.weight")![7] = 70000;
  await assertRejects(
    () => writeModel(files, "m", memorySource(config, bad), { dtype: () => "F16" }),
    CheckpointError,
    "model.norm.weight holds 70000 at element 7, which F16 cannot hold",
  );
  const stop = new AbortController();
  const onProgress = (written: number) => written > 500 && stop.abort(new Error("stopped"));
  await assertRejects(
    () => writeModel(files, "m", source, { onProgress, signal: stop.signal }),
    Error,
    "stopped",
  );
  assertEquals(files.files.size, 0);
  await writeModel(files, "m", source);
  await assertRejects(() => writeModel(files, "m", source), CheckpointError, "exists already");
});

Deno.test("a model card tells where a model comes from", () => {
  const moe = upcycledConfig(config, { experts: 4, expertsPerToken: 2 });
  const card = modelCard(moe, {
    name: "small-moe",
    source: "stories",
    steps: ["grown 2 -> 3 layers\n(identity)", "upcycled to 4 experts"],
    data: ["WordNet 3.1"],
    losses: [["validation", "3.9 bits per byte"]],
    license: "mit",
    languages: ["en", "zh"],
  });
  for (
    const part of [
      "# small-moe",
      "4 experts, 2 a token",
      "- grown 2 -> 3 layers (identity)",
      "| validation | 3.9",
      'license: "mit"',
    ]
  ) {
    assertStringIncludes(card, part);
  }
  assert(card.startsWith("---\n"));
  const empty = modelCard(config, { name: "x", steps: [], data: [], losses: [] });
  assertStringIncludes(empty, "Freshly initialised.");
});

Deno.test("provenance goes with the folder; a damaged one is not passed over", async () => {
  const files = new MemoryStorage();
  const provenance: Provenance = {
    name: "m",
    source: "stories",
    steps: ["grown"],
    data: ["WordNet"],
    losses: [["validation", "1.2 nats"]],
    license: "mit",
    languages: ["en"],
  };
  assertEquals(await readProvenance(files, "m"), undefined);
  await writeModel(files, "m", source, { extras: provenanceFiles(config, provenance) });
  assertEquals(await readProvenance(files, "m"), provenance);
  assertEquals(files.string("m/README.md"), modelCard(config, provenance));
  assertEquals(await statedLicense(files, "m"), "mit");
  files.text("n/README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# N\nlicense: no\n");
  assertEquals(await statedLicense(files, "n"), "apache-2.0");
  files.text("n/README.md", "# N\nlicense: no\n");
  assertEquals(await statedLicense(files, "n"), undefined);
  for (
    const text of ["{", "[]", '{"version":2}', '{"version":1,"name":"x","steps":[1],"data":[],"losses":[]}']
  ) {
    files.text("m/volary.json", text);
    await assertRejects(() => readProvenance(files, "m"), CheckpointError, "m/volary.json");
  }
});

Deno.test("what a change will take: shapes, parameters, disk, memory", () => {
  const moe = upcycledConfig(config, { experts: 3, expertsPerToken: 2 });
  const { shapes, parameters, diskBytes, makingBytes, runBytes, trainBytes } = summarizeChange(
    config,
    moe,
    (name) => name.includes("experts") ? "BF16" : "F32",
    3,
  );
  const of = (name: string) => shapes.find((shape) => shape.name === name);
  assertEquals(of("model.layers.*.mlp.up_proj.weight")?.before, { count: 2, shape: [20, 12] });
  assertEquals(of("model.layers.*.mlp.up_proj.weight")?.after, undefined);
  assertEquals(of("model.layers.*.block_sparse_moe.experts.*.w3.weight")?.after, {
    count: 6,
    shape: [20, 12],
  });
  const mlps = 2 * 3 * 20 * 12, routers = 2 * 3 * 12;
  assertEquals(parameters.after, parameters.before + 2 * mlps + routers);
  assertEquals(parameters.active, parameters.before + mlps + routers);
  assertEquals(diskBytes, 4 * parameters.after - 2 * 3 * mlps);
  // Twelve pieces no larger than the largest tensor, and three whole tensors of experts.
  assertEquals(makingBytes, 4 * (12 * 24 * 12 + 3 * 20 * 12));
  assertEquals([runBytes, trainBytes], [4 * parameters.after, 16 * parameters.after]);
});
