/** A run reads prepared shards, and says what does not fit. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import type { Phase } from "../../coordinator/recipe/recipe_phases.ts";
import { openText } from "../../coordinator/recipe/open_text.ts";
import { readConfig } from "../../data/config.ts";
import { prepare } from "../../data/prepare.ts";
import { byteTokenizerFiles } from "../../model/text/byte_tokenizer.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { randomStream } from "../../model/random.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

/** Two domains whose letters tell them apart. */
async function prepareShards(storage: MemoryStorage): Promise<void> {
  const words = (letters: string, i: number) => {
    const stream = randomStream(i, letters), letter = () => letters[stream.integer(8)];
    return Array.from({ length: 12 }, () => Array.from({ length: 4 }, letter).join("")).join(" ");
  };
  for (const [name, letters] of [["lower", "abcdefgh"], ["upper", "ABCDEFGH"]]) {
    storage.text(
      `/${name}.txt`,
      Array.from({ length: 200 }, (_, i) => words(letters, i)).join("\n"),
    );
  }
  const config = readConfig({
    output: "/shards",
    tokenizer: "bytes",
    validation: 0.1,
    shard_tokens: 1_000,
    deduplicate: { near: false },
    domain: [
      { name: "lower", files: ["/lower.txt"], documents: "line", proportion: 0.75 },
      { name: "upper", files: ["/upper.txt"], documents: "line", proportion: 0.25 },
    ],
  }, (path) => path);
  await prepare(config, { files: storage });
}

const recipeOf = (data: string, phase = "steps = 8") =>
  parseRecipe(
    `name = "x"
[model]
hidden_size = 16
[data]
${data}
[[phase]]
kind = "train"
${phase}
batch = 8
microbatches = 4
sequence = 24
learning_rate = 1e-3
`,
    (path) => path,
  );

const runtimeOf = (storage: MemoryStorage) => ({ ...denoRuntime(), storage });

/** Which letters the sequences of a step have: "a", "A" or both. */
async function kinds(phases: readonly Phase[], storage: MemoryStorage, data: string, step: number) {
  const text = await openText(runtimeOf(storage), recipeOf(data));
  const { ids } = await text.phase(phases, 0).train(step);
  const words = new Uint32Array(ids.buffer);
  return Array.from({ length: 8 }, (_, i) => {
    const shown = new TextDecoder().decode(
      Uint8Array.from(words.subarray(i * 24, (i + 1) * 24)).filter((b) => b > 64),
    );
    return (/[a-h]/.test(shown) ? "a" : "") + (/[A-H]/.test(shown) ? "A" : "");
  });
}

Deno.test("sequences are drawn by domain: one by one, or a microbatch at a time", async () => {
  const storage = new MemoryStorage();
  await prepareShards(storage);
  const { phases } = recipeOf(`shards = "/shards"`);
  const all: string[] = [];
  for (let step = 1; step <= 8; step++) all.push(...await kinds(phases, storage, `shards = "/shards"`, step));
  assertEquals(all.filter((kind) => kind === "a").length, 48);
  assertEquals(all.filter((kind) => kind === "A").length, 16);
  const mixed = await kinds(phases, storage, `shards = "/shards"\nmix = "microbatch"`, 1);
  for (let m = 0; m < 4; m++) assertEquals(mixed[2 * m], mixed[2 * m + 1]);
  assertEquals(mixed.filter((kind) => kind === "A").length, 2);
});

Deno.test("a run over a mesh trains on shards, labels one ahead, and learns", async () => {
  const mesh = await smallMesh("reference", 1);
  await prepareShards(mesh.storage);
  const recipe = smallRecipe({ steps: 10 }).replace(
    /train = \["a.txt"\]\nvalidation = 0.2/,
    `shards = "shards"`,
  );
  const losses: number[] = [];
  await mesh.run(recipe, false, (event) => event.event === "step" && losses.push(event.loss!));
  assertEquals(losses.length, 10);
  assert(losses.at(-1)! < losses[0] - 0.3, `${losses}`);
  await mesh.close();
});

Deno.test("shards of another tokenizer, damaged or missing ones, and too many epochs are named", async () => {
  const storage = new MemoryStorage();
  await prepareShards(storage);
  const other = JSON.parse(new TextDecoder().decode(byteTokenizerFiles().get("tokenizer.json")!));
  other.model.vocab["zz"] = 259;
  storage.text("/other/tokenizer.json", JSON.stringify(other));
  const open = (data: string) => openText(runtimeOf(storage), recipeOf(data));
  await open(`shards = "/shards"\ntokenizer = "bytes"`);
  await assertRejects(
    () => open(`shards = "/shards"\ntokenizer = "/other/tokenizer.json"`),
    Error,
    "made with another tokenizer than /other/tokenizer.json",
  );
  await assertRejects(() => open(`shards = "/nowhere"`), Error, "volary data prepare");
  const text = await open(`shards = "/shards"`);
  const error = assertThrows(
    () => text.epochs(recipeOf(`shards = "/shards"`, "steps = 4000")),
    Error,
    "epochs",
  );
  assert(
    /domain "(lower|upper)", which has [\d.]+k: that is [\d.]+k? epochs/.test(error.message),
    error.message,
  );
  assert(text.epochs(recipeOf(`shards = "/shards"`)).epochs < 1);

  const [name] = [...storage.files.keys()].filter((path) => path.endsWith("train-upper-00000.tokens"));
  storage.files.get(name)![5] ^= 1;
  await assertRejects(() => open(`shards = "/shards"`), Error, "train-upper-00000.tokens is damaged");
  storage.files.set(name, storage.files.get(name)!.slice(2));
  await assertRejects(() => open(`shards = "/shards"`), Error, "1998 bytes instead of 2000");
  storage.files.delete(name);
  await assertRejects(() => open(`shards = "/shards"`), Error, "is missing");
});

Deno.test("a recipe says text files or shards, not both or neither", () => {
  assertThrows(() => recipeOf(`epochs = 1`), Error, "give train =");
  assertThrows(() => recipeOf(`shards = "/s"\ntrain = ["a.txt"]`), Error, "remove train");
  assertThrows(() => recipeOf(`shards = "/s"\nvalidation = 0.1`), Error, "remove validation");
  assertThrows(() => recipeOf(`train = ["a.txt"]\nmix = "sample"`), Error, "mix is about the domains");
});
