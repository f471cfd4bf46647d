/** Checkpoint folders: what is written comes back, what does not fit is named, nothing stands half. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { recoverCheckpoint } from "../../model/checkpoint/checkpoint_folders.ts";
import {
  type CheckpointOptions,
  CheckpointWriter,
  type Part,
} from "../../model/checkpoint/checkpoint_writer.ts";
import type { ModelConfig } from "../../model/config.ts";
import { CheckpointError, SafetensorsError } from "../../model/errors.ts";
import { readText } from "../../model/files.ts";
import { SafetensorsWriter } from "../../model/checkpoint/safetensors_writer.ts";
import { finiteOnly, pieces } from "../../model/source.ts";
import { elements, parameterTable, type TensorSpec } from "../../model/tensors.ts";
import { openState, readLatest, writeLatest } from "../../model/checkpoint/training_state.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { randomWeights, readAll, smallConfig } from "./models.ts";

const state = { step: 12, position: 96, seed: 5, recipe: { name: "r", steps: 20 } };

async function save(
  files: MemoryStorage,
  folder: string,
  config: ModelConfig,
  options: Partial<CheckpointOptions> = {},
) {
  const writer = await CheckpointWriter.create(files, folder, { config, ...options });
  const parts: Part[] = options.state === undefined ? ["weight"] : ["v", "weight", "m"];
  const jobs: (() => Promise<void>)[] = [];
  for (const [p, part] of parts.entries()) {
    const weights = randomWeights(config, p + 1);
    for (const [name, words] of [...weights].reverse()) {
      for (const [start, length] of pieces(words.length, 100)) {
        jobs.push(() => writer.write(part, name, start, words.slice(start, start + length)));
      }
    }
  }
  await Promise.all(jobs.map((job) => job()));
  await writer.finish();
}

/** Replaces a folder's weight file by one with these tensors. */
async function forge(
  files: MemoryStorage,
  path: string,
  tensors: readonly Pick<TensorSpec, "name" | "shape">[],
) {
  files.files.delete(path);
  const layouts = tensors.map(({ name, shape }) => ({ name, shape, dtype: "F32" }) as const);
  const writer = await SafetensorsWriter.create(files, path, layouts);
  for (const { name, shape } of layouts) await writer.write(name, 0, new Float32Array(elements(shape)));
  await writer.finish();
}

Deno.test("weights, moments and state come back, and the folder is one that others read", async () => {
  const files = new MemoryStorage(), config = smallConfig({ num_local_experts: 3, num_experts_per_tok: 2 });
  const extras = new Map([["tokenizer.json", new TextEncoder().encode("{}")]]);
  await save(files, "run/step-12/", config, { state, extras });
  assertEquals([...files.files.keys()].sort(), [
    "run/step-12.state/moments.safetensors",
    "run/step-12.state/state.json",
    "run/step-12/config.json",
    "run/step-12/model.safetensors",
    "run/step-12/tokenizer.json",
  ]);
  const checkpoint = await openCheckpoint(files, "run/step-12");
  assertEquals(checkpoint.config, config);
  assertEquals(await readAll(checkpoint), randomWeights(config, 2));
  const saved = await openState(files, checkpoint);
  assertEquals(saved?.state, state);
  const name = "model.layers.1.block_sparse_moe.experts.2.w2.weight";
  assertEquals(await saved?.readMoment("m", name, 7, 30), randomWeights(config, 3).get(name)!.slice(7, 37));
  assertEquals(await saved?.readMoment("v", name, 0, 9), randomWeights(config, 1).get(name)!.slice(0, 9));
});

Deno.test("large models are split into shards with an index; formats are kept", async () => {
  const files = new MemoryStorage(), config = smallConfig();
  await save(files, "m", config, {
    shardBytes: 3000,
    dtype: (name) => name.endsWith("bias") ? "F32" : "BF16",
  });
  const shards = [...files.files.keys()].filter((path) => path.endsWith(".safetensors"));
  assert(shards.length > 2 && shards[0].startsWith("m/model-00001-of-"), shards.join());
  const index = JSON.parse((await readText(files, "m/model.safetensors.index.json"))!);
  assertEquals(Object.keys(index.weight_map), parameterTable(config).map(({ name }) => name));
  const checkpoint = await openCheckpoint(files, "m");
  assertEquals(checkpoint.dtype("lm_head.weight"), "BF16");
  const name = "model.layers.0.self_attn.q_proj.bias";
  assertEquals(await checkpoint.read(name, 0, 24), randomWeights(config).get(name));
  // A shard that the index names but nobody has.
  const lost = files.files.get(shards[1])!;
  files.files.delete(shards[1]);
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, shards[1].slice(2));
  files.files.set(shards[1], lost);
  // An index that looks in the wrong file, or out of its folder.
  files.text(
    "m/model.safetensors.index.json",
    JSON.stringify({ ...index, weight_map: { ...index.weight_map, x: shards[0].slice(2) } }),
  );
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "looks for tensor x");
  files.text(
    "m/model.safetensors.index.json",
    JSON.stringify({ weight_map: { x: "../secret.safetensors" } }),
  );
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "only files beside it");
  files.text("m/model.safetensors.index.json", "{}");
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "no weight_map");
});

Deno.test("missing, extra, misshapen and misnamed tensors are named", async () => {
  const files = new MemoryStorage(), config = smallConfig(), table = parameterTable(config);
  await save(files, "m", config);
  const q = "model.layers.1.self_attn.q_proj.weight";
  const change = (name: string, to: Partial<TensorSpec>) =>
    table.map((spec) => spec.name === name ? { ...spec, ...to } : spec);
  const cases: [readonly Pick<TensorSpec, "name" | "shape">[], string[]][] = [
    [table.filter(({ name }) => name !== q), [`lacks ${q} [24, 12]`]],
    [change(q, { shape: [12, 24] }), [`${q} of m has the shape [12, 24]`, "asks for [24, 12]"]],
    [change(q, { name: "layers.1.attention.wq.weight" }), [
      `lacks ${q}`,
      "Perhaps layers.1.attention.wq.weight should be called",
    ]],
    [[...table, { name: "model.layers.0.self_attn.o_proj.bias", shape: [12] }], [
      "o_proj.bias [12]",
      "bias on o",
    ]],
    [[...table, { name: "model.layers.0.self_attn.q_norm.weight", shape: [6] }], [
      "Norms of queries and keys",
    ]],
    [table.filter(({ role }) => role !== "head"), ["lacks lm_head.weight [17, 12]", "tie_word_embeddings"]],
    [table.filter(({ layer }) => layer !== 1), ["and 9 more"]],
  ];
  for (const [tensors, parts] of cases) {
    await forge(files, "m/model.safetensors", tensors);
    const error = await assertRejects(() => openCheckpoint(files, "m"), CheckpointError);
    for (const part of parts) assertStringIncludes(error.message, part);
  }
  // Buffers that follow from the configuration do no harm.
  await forge(files, "m/model.safetensors", [...table, {
    name: "model.layers.0.self_attn.rotary_emb.inv_freq",
    shape: [3],
  }]);
  await openCheckpoint(files, "m");
});

Deno.test("a stored head that should be tied must be the embedding", async () => {
  const files = new MemoryStorage(), config = smallConfig({ tie_word_embeddings: true });
  const table = parameterTable(config), layouts = [...table, { name: "lm_head.weight", shape: [17, 12] }];
  await save(files, "m", config);
  await forge(files, "m/model.safetensors", layouts);
  assertEquals((await openCheckpoint(files, "m")).table, table);
  const bytes = files.files.get("m/model.safetensors")!;
  bytes[bytes.length - 1] = 1;
  await assertRejects(
    () => openCheckpoint(files, "m"),
    CheckpointError,
    "differs from model.embed_tokens.weight",
  );
});

Deno.test("folders that are no models say so", async () => {
  const files = new MemoryStorage();
  await assertRejects(() => openCheckpoint(files, "x"), CheckpointError, "There is no x/config.json");
  files.text("x/config.json", "{");
  await assertRejects(() => openCheckpoint(files, "x"), CheckpointError, "not readable JSON");
  await save(files, "m", smallConfig());
  files.files.set("m/pytorch_model.bin", files.files.get("m/model.safetensors")!);
  files.files.delete("m/model.safetensors");
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "pickle");
  files.files.delete("m/pytorch_model.bin");
  await assertRejects(() => openCheckpoint(files, "m"), CheckpointError, "neither model.safetensors nor");
});

Deno.test("NaN and infinity are found, by tensor and place", async () => {
  const config = smallConfig(), weights = randomWeights(config), files = new MemoryStorage();
  const writer = await CheckpointWriter.create(files, "m", { config });
  weights.get("model.norm.weight")![3] = NaN;
  for (const [name, words] of weights) await writer.write("weight", name, 0, words);
  await writer.finish();
  const source = finiteOnly(await openCheckpoint(files, "m"));
  await source.read("model.norm.weight", 4, 8);
  await assertRejects(
    () => source.read("model.norm.weight", 2, 4),
    CheckpointError,
    "model.norm.weight holds NaN at element 3",
  );
});

Deno.test("nothing stands under the name until all is there; leftovers are cleared; what exists is kept", async () => {
  const files = new MemoryStorage(), config = smallConfig();
  const broken = await CheckpointWriter.create(files, "m", { config, state });
  await broken.write("weight", "lm_head.weight", 0, new Float32Array(5));
  assertEquals([...files.files.keys()].filter((path) => !path.includes(".partial")), []);
  // As after a crash: the leftovers are there when the next one begins.
  await save(files, "m", config, { state });
  assertEquals([...files.files.keys()].filter((path) => path.includes(".partial")), []);
  const before = new Map(files.files);
  await assertRejects(
    () => CheckpointWriter.create(files, "m", { config }),
    CheckpointError,
    "exists already",
  );
  assertEquals(files.files, before);
  // Unfinished: removed, and the old one still stands.
  const unfinished = await CheckpointWriter.create(files, "m", {
    config,
    replace: true,
    state: { ...state, step: 13 },
  });
  await unfinished.write("weight", "model.norm.weight", 0, new Float32Array(12));
  await assertRejects(() => unfinished.finish(), SafetensorsError, "never written");
  assertEquals(files.files, before);
  // Replaced as a whole.
  await save(files, "m", config, { replace: true, state: { ...state, step: 14 } });
  assertEquals((await openState(files, await openCheckpoint(files, "m")))?.state.step, 14);
  assertEquals(files.files.size, before.size);
});

Deno.test("a replacement that is cut off at any move leaves the old checkpoint or the new one", async () => {
  class CutStorage extends MemoryStorage {
    moves = Infinity;
    override rename(from: string, to: string): Promise<void> {
      // Moves of the folders themselves, not of files inside them.
      if (!from.endsWith("safetensors.partial") && --this.moves < 0) {
        return Promise.reject(new Error("cut off"));
      }
      return super.rename(from, to);
    }
  }
  const config = smallConfig(), steps: (number | undefined)[] = [];
  for (let moves = 0; moves < 5; moves++) {
    const files = new CutStorage();
    await save(files, "m", config, { state });
    files.moves = moves;
    const next = save(files, "m", config, { replace: true, state: { ...state, step: 13 } });
    if (moves < 4) await assertRejects(() => next, Error, "cut off");
    else await next;
    files.moves = Infinity;
    await recoverCheckpoint(files, "m");
    steps.push((await openState(files, await openCheckpoint(files, "m")))?.state.step);
    await save(files, "m", config, { replace: true, state: { ...state, step: 14 } });
    assertEquals((await openState(files, await openCheckpoint(files, "m")))?.state.step, 14);
    assertEquals([...files.files.keys()].filter((path) => /old|partial/.test(path)), []);
  }
  assertEquals(steps, [12, 12, 12, 12, 13]);
});

Deno.test("a full disk leaves nothing half written and says what to do", async () => {
  class FullStorage extends MemoryStorage {
    left = 9000;
    override write(path: string, position: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
      this.left -= bytes.length;
      if (this.left < 0) return Promise.reject(new Error("No space left on device (os error 28)"));
      return super.write(path, position, bytes);
    }
  }
  const files = new FullStorage(), config = smallConfig();
  const writer = await CheckpointWriter.create(files, "m", { config });
  const jobs = [...randomWeights(config)].map(([name, words]) => writer.write("weight", name, 0, words));
  const results = await Promise.allSettled(jobs);
  assert(results.some(({ status }) => status === "rejected"));
  await assertRejects(() => writer.finish(), CheckpointError, "The disk is full: m was not written");
  assertEquals(files.files.size, 0);
});

Deno.test("a state of other weights or another version is not resumed from", async () => {
  const files = new MemoryStorage(), config = smallConfig();
  await save(files, "m", config, { state });
  const open = async () => await openState(files, await openCheckpoint(files, "m"));
  const path = "m.state/state.json", good = files.string(path);
  files.text(path, good.replace('"step": 12', '"step": 11'));
  await assertRejects(open, CheckpointError, "is of step 11, but the model beside it of step 12");
  files.text(path, good.replace('"version": 1', '"version": 2'));
  await assertRejects(open, CheckpointError, "has version 2; this program reads version 1");
  files.text(path, good.replace('"seed": 5', '"seed": 5.5'));
  await assertRejects(open, CheckpointError, "lacks a whole step");
  files.text(path, good);
  await forge(files, "m.state/moments.safetensors", []);
  await assertRejects(open, CheckpointError, "but the moments beside it of step (none)");
  files.files.delete(path);
  assertEquals(await open(), undefined);
});

Deno.test("the pointer to the newest checkpoint is replaced as a whole", async () => {
  const files = new MemoryStorage();
  assertEquals(await readLatest(files, "run"), undefined);
  await writeLatest(files, "run", { folder: "step-10", step: 10 });
  await writeLatest(files, "run", { folder: "step-20", step: 20 });
  assertEquals(await readLatest(files, "run"), { folder: "step-20", step: 20 });
  assertEquals([...files.files.keys()], ["run/latest.json"]);
  files.text("run/latest.json", "{}");
  await assertRejects(() => readLatest(files, "run"), CheckpointError, "damaged");
});
