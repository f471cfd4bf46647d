/** What is wrong with a folder is said by name, and nothing is written. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { verb as evaluate } from "../../cli/eval.ts";
import { verb as exportModel } from "../../cli/export.ts";
import { verb as importModel } from "../../cli/import.ts";
import { verb as inspect } from "../../cli/inspect.ts";
import { UsageError } from "../../cli/verb.ts";
import type { DType } from "../../model/dtypes.ts";
import { CheckpointError, ConfigError, SafetensorsError } from "../../model/errors.ts";
import { openSafetensors, readStored, type StoredTensor } from "../../model/checkpoint/safetensors.ts";
import { SafetensorsWriter } from "../../model/checkpoint/safetensors_writer.ts";
import { elements } from "../../model/tensors.ts";
import { inFolder, names, run, storage, writeSmall } from "./models.ts";

type Tensors = Map<string, { tensor: StoredTensor; words: Float32Array<ArrayBuffer> }>;

/** Writes a folder's weights again, changed. */
async function change(folder: string, edit: (tensors: Tensors) => void): Promise<void> {
  const path = `${folder}/model.safetensors`, file = await openSafetensors(storage, path);
  const tensors: Tensors = new Map();
  for (const [name, tensor] of file.tensors) {
    tensors.set(name, { tensor, words: await readStored(storage, file, tensor, 0, elements(tensor.shape)) });
  }
  edit(tensors);
  await Deno.remove(path);
  const layouts = [...tensors].map(([name, { tensor }]) => ({ ...tensor, name }));
  const writer = await SafetensorsWriter.create(storage, path, layouts);
  for (const [name, { words }] of tensors) await writer.write(name, 0, words);
  await writer.finish();
}

async function config(folder: string, edit: Record<string, unknown>): Promise<void> {
  const path = `${folder}/config.json`, json = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...json, ...edit }));
}

const up = "model.layers.1.mlp.up_proj.weight";

/** What is done to a good folder, and what must be said. */
const bad: Record<string, [(folder: string) => Promise<void>, new (message: string) => Error, string[]]> = {
  "a missing tensor": [
    (folder) => change(folder, (tensors) => tensors.delete(up)),
    CheckpointError,
    ["lacks", `${up} [20, 12]`],
  ],
  "an extra tensor": [
    (folder) => change(folder, (tensors) => tensors.set("model.extra.weight", tensors.get(up)!)),
    CheckpointError,
    ["has model.extra.weight [20, 12] that a model of this configuration does not have"],
  ],
  "a misshapen tensor": [
    (folder) =>
      change(folder, (tensors) => {
        const { tensor, words } = tensors.get(up)!;
        tensors.set(up, { tensor: { ...tensor, shape: [12, 20] }, words });
      }),
    CheckpointError,
    [up, "has the shape [12, 20], but config.json asks for [20, 12]"],
  ],
  "a misnamed tensor": [
    (folder) =>
      change(folder, (tensors) => {
        tensors.set("model.layers.1.mlp.upp_proj.weight", tensors.get(up)!);
        tensors.delete(up);
      }),
    CheckpointError,
    [`Perhaps model.layers.1.mlp.upp_proj.weight should be called ${up}`],
  ],
  "NaN in a weight": [
    (folder) => change(folder, (tensors) => tensors.get(up)!.words[7] = NaN),
    CheckpointError,
    [`Tensor ${up} holds NaN at element 7`],
  ],
  "a file that was cut off": [
    (folder) => Deno.truncate(`${folder}/model.safetensors`, 5000),
    SafetensorsError,
    ["model.safetensors", "It was cut off or is damaged"],
  ],
  "an unknown model_type": [
    (folder) => config(folder, { model_type: "mamba" }),
    ConfigError,
    ['model_type "mamba" is not known', "Known: volary, llama, qwen2, mixtral"],
  ],
  "rope scaling": [
    (folder) => config(folder, { rope_scaling: { rope_type: "llama3", factor: 8 } }),
    ConfigError,
    ["rope_scaling asks for rope scaling"],
  ],
  "a sliding window": [
    (folder) =>
      config(folder, {
        model_type: "mixtral",
        sliding_window: 32,
        num_local_experts: 2,
        num_experts_per_tok: 1,
        attention_bias: false,
      }),
    ConfigError,
    ["sliding_window is 32 and in use"],
  ],
  "a softmax before the top-k": [
    (folder) => config(folder, { norm_topk_prob: false }),
    ConfigError,
    ["gate weights must sum to 1"],
  ],
  "a key that nobody knows": [
    (folder) => config(folder, { attention_sinks: 4 }),
    ConfigError,
    ['unknown key "attention_sinks"'],
  ],
  "no config.json": [
    (folder) => Deno.remove(`${folder}/config.json`),
    CheckpointError,
    ["There is no", "config.json"],
  ],
  "a pickle": [
    (folder) => Deno.rename(`${folder}/model.safetensors`, `${folder}/pytorch_model.bin`),
    CheckpointError,
    ["a pickle that could run any code"],
  ],
};

Deno.test("bad folders are refused by name, and nothing is written", async () => {
  for (const [what, [spoil, type, parts]] of Object.entries(bad)) {
    await inFolder(async (path) => {
      await writeSmall(path("m"));
      await spoil(path("m"));
      const error = await assertRejects(
        () => run(importModel, path("m"), path("out")),
        type,
        undefined,
        what,
      );
      for (const part of parts) assertStringIncludes((error as Error).message, part, what);
      assertEquals(await names(path("")), ["m"], what);
    });
  }
});

Deno.test("a shard that the index names but nobody has", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("m"), {}, { shardBytes: 8000 });
    const shards = (await names(path("m"))).filter((name) => name.endsWith(".safetensors"));
    assertEquals(shards.length > 2, true);
    await Deno.remove(path(`m/${shards[1]}`));
    const error = await assertRejects(() => run(importModel, path("m"), path("out")), CheckpointError);
    assertStringIncludes(error.message, `names ${shards[1]}, but`);
    assertStringIncludes(error.message, `(${shards.length} in all)`);
    assertEquals(await names(path("")), ["m"]);
  });
});

Deno.test("a target that exists is left alone, whatever it is", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("m"));
    await Deno.mkdir(path("folder"));
    await Deno.writeTextFile(path("folder/notes.txt"), "mine");
    await Deno.writeTextFile(path("file"), "mine");
    for (const target of ["folder", "file", "m", "folder/"]) {
      for (const verb of [importModel, exportModel]) {
        await assertRejects(() => run(verb, path("m"), path(target)), CheckpointError, "exists already");
      }
    }
    assertEquals(await Deno.readTextFile(path("folder/notes.txt")), "mine");
    assertEquals(await Deno.readTextFile(path("file")), "mine");
    assertEquals(await names(path("")), ["file", "folder", "m"]);
  });
});

Deno.test("bf16, f16, f32 and mixed folders, in shards or not, come through bit for bit", async () => {
  await inFolder(async (path) => {
    const formats: Record<"bf16" | "f16" | "f32" | "mixed", (name: string) => DType> = {
      bf16: () => "BF16",
      f16: () => "F16",
      f32: () => "F32",
      mixed: (name) => name.includes("norm") ? "F32" : name.includes("mlp") ? "F16" : "BF16",
    };
    for (const [name, dtype] of Object.entries(formats)) {
      await writeSmall(path(name), { model_type: "qwen2" }, { dtype });
      await run(importModel, path(name), path(`${name}-in`));
      await run(exportModel, path(`${name}-in`), path(`${name}-out`));
      const bytes = (folder: string) => Deno.readFile(path(`${folder}/model.safetensors`));
      assertEquals(await bytes(`${name}-in`), await bytes(name));
      assertEquals(await bytes(`${name}-out`), await bytes(name));
    }
    // Several files with an index, then one file again.
    await writeSmall(path("s"), { model_type: "qwen2" }, { dtype: formats.mixed, shardBytes: 6000 });
    await run(importModel, path("s"), path("s-in"));
    assertEquals(
      await Deno.readFile(path("s-in/model.safetensors")),
      await Deno.readFile(path("mixed/model.safetensors")),
    );
  });
});

Deno.test("exports refuse a type that would lose something", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("m"), { num_local_experts: 3, num_experts_per_tok: 2 });
    await assertRejects(
      () => run(exportModel, path("m"), path("out"), "--as", "mixtral"),
      CheckpointError,
      "cannot be exported as mixtral",
    );
    await assertRejects(
      () => run(exportModel, path("m"), path("out"), "--as", "gpt2"),
      UsageError,
      "--as takes",
    );
    await run(exportModel, path("m"), path("out"));
    const json = JSON.parse(await Deno.readTextFile(path("out/config.json")));
    assertEquals([json.model_type, json.architectures], ["aquilamoe", ["AquilaMoeForCausalLM"]]);
  });
});

Deno.test("inspect names tensors with NaN and answers 1; eval needs its text", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("m"));
    await change(path("m"), (tensors) => tensors.get(up)!.words[7] = NaN);
    const { code, text, lines } = await run(inspect, path("m"), "--json", "--tensors");
    assertEquals(code, 1);
    assertStringIncludes(text, `1 tensor holds weights that are not finite: ${up}`);
    const tensors = lines[0].tensors as { name: string; norm: number | null; dtype: string }[];
    assertEquals(tensors.find(({ name }) => name === up)?.norm, null);
    assertEquals(tensors.every(({ dtype }) => dtype === "F32"), true);
    await assertRejects(
      () => run(evaluate, path("m")),
      UsageError,
      "--text FILE or --tasks FILE... is missing",
    );
    await assertRejects(
      () => run(evaluate, path("m"), "--text", path("none")),
      Error,
      "there is no such file",
    );
  });
});
