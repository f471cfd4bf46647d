/** A recipe that begins with raw files: they become shards, once, whatever happens meanwhile. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CoordinatorError, RecipeError } from "../../coordinator/errors.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { MemoryStorage } from "../memory_storage.ts";

const sentence = (i: number) =>
  `The ${["grey", "small", "old", "quiet"][i % 4]} ${["cat", "river", "teacher", "garden"][i * 7 % 4]} ` +
  `number ${i} was seen near the ${["bridge", "market", "station"][i % 3]} on a morning in ` +
  `${1900 + i % 97}.`;

const description = `
output = "shards"
tokenizer = "bytes"
validation = 0.1
[[domain]]
name = "sentences"
files = ["raw/*.txt"]
documents = "line"
[deduplicate]
near = false
`;
const recipe = `
name = "prepared"
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
num_attention_heads = 2
[data]
shards = "data/shards"
[[phase]]
kind = "prepare"
config = "data/description.toml"
[[phase]]
kind = "train"
steps = 4
batch = 2
sequence = 16
learning_rate = 1e-2
`;

async function start(storage = new MemoryStorage()): Promise<MeshInMemory> {
  for (const part of [0, 1]) {
    const lines = Array.from({ length: 150 }, (_, i) => sentence(150 * part + i));
    storage.text(`/data/raw/${part}.txt`, lines.join("\n"));
  }
  storage.text("/data/description.toml", description);
  return await MeshInMemory.start({ workers: 1, device: () => openDevice({ kind: "reference" }), storage });
}

const weights = (storage: MemoryStorage) =>
  storage.files.get("/runs/prepared/checkpoints/step-000004/model.safetensors")!;

Deno.test("a run prepares its text, also after a kill in the middle, and only once", async () => {
  const first = await start(), kept = new MemoryStorage();
  let dead = false;
  try {
    const { event } = await first.run(recipe, false, (event) => {
      if (dead || event.event !== "prepare") return;
      dead = true; // what comes later does not reach this disk
      for (const [path, bytes] of first.storage.files) kept.files.set(path, bytes.slice());
    });
    assertEquals(event, "done", JSON.stringify(first.events.at(-1)));
  } finally {
    await first.close();
  }
  assert(!kept.files.has("/data/shards/index.json"), "it was killed before the shards were there");
  const second = await start(kept);
  try {
    assertEquals((await second.run(recipe)).event, "done");
    assertEquals(weights(kept), weights(first.storage));
    await assertRejects(() => second.run(recipe), Error, "There is a run in");
    const told = second.events.flatMap((event) => event.event === "prepare" ? [event.text] : []);
    assertStringIncludes(told.at(-1)!, "made before");
  } finally {
    await second.close();
  }
});

Deno.test("a preparation that is stopped says how to go on", async () => {
  const mesh = await start();
  try {
    let asked: Promise<boolean> | undefined;
    const error = await assertRejects(() =>
      mesh.run(recipe, false, (event) => {
        if (event.event === "prepare") asked ??= mesh.coordinator.stop();
      }), CoordinatorError);
    await asked;
    assertStringIncludes(error.message, "the same command goes on");
    assertEquals(mesh.storage.files.has("/runs/prepared/recipe.toml"), false);
  } finally {
    await mesh.close();
  }
});

Deno.test("shards that the phase does not make are refused", async () => {
  const mesh = await start();
  try {
    const error = await assertRejects(
      () => mesh.run(recipe.replace("data/shards", "data/other")),
      RecipeError,
    );
    for (const part of ["[[phase]] 1 (prepare)", "/data/shards", "/data/other"]) {
      assertStringIncludes(error.message, part);
    }
  } finally {
    await mesh.close();
  }
});
