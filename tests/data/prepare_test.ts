/** Preparing data: the same bytes whatever happens on the way, and everything that can be wrong with it. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { parseConfig, readConfig } from "../../data/config.ts";
import { Shards } from "../../data/shards.ts";
import type { FileStore } from "../../model/files.ts";
import { contents, documentsIn, files, inFolder, nearCopy, prepareIn, randomDocument } from "./corpora.ts";

/** Text, JSON lines and a table, with duplicates between them. */
async function writeInputs(folder: string): Promise<void> {
  const document = (i: number) => randomDocument(i, 50 + i % 40).join(" ");
  await Deno.mkdir(join(folder, "in", "deep"), { recursive: true });
  const lines = Array.from({ length: 60 }, (_, i) => document(i));
  await Deno.writeTextFile(join(folder, "in", "a.txt"), lines.join("\n\n") + "\n");
  const objects = Array.from({ length: 60 }, (_, i) => ({
    text: i < 10 ? nearCopy(randomDocument(i, 50 + i % 40), i, 3, 0.85).join(" ") : document(100 + i),
    id: i,
  }));
  await Deno.writeTextFile(
    join(folder, "in", "deep", "b.jsonl"),
    objects.map((object) => JSON.stringify(object)).join("\n"),
  );
  const data = [...lines.slice(0, 5), ...Array.from({ length: 40 }, (_, i) => document(300 + i))];
  const table = parquetWriteBuffer({
    columnData: [{ name: "body", data, type: "STRING" }],
    rowGroupSize: [16],
  });
  await Deno.writeFile(join(folder, "in", "c.parquet"), new Uint8Array(table));
}

const config = {
  validation: 0.1,
  shard_tokens: 2_048,
  domain: [
    { name: "mixed", files: ["in/*.txt", "in/deep"], documents: "paragraph", proportion: 0.7 },
    { name: "table", files: ["in/**/*.parquet"], text: "body", proportion: 0.3 },
  ],
};

Deno.test("text, JSON lines and Parquet become shards; the report says what left", async () => {
  await inFolder(async (folder) => {
    await writeInputs(folder);
    const { report, index, before } = await prepareIn(folder, config);
    assert(!before);
    assertEquals(report.mixed.documents, 120);
    assertEquals(report.table.documents, 45);
    assertEquals(report.table.dropped.exact!["exact duplicates"].documents, 5);
    assertEquals(report.mixed.dropped.near!["near duplicates"].documents, 10);
    assertStringIncludes(report.mixed.dropped.near!["near duplicates"].samples[0], " ~ ");
    assertEquals(index.domains.map(({ proportion }) => proportion), [0.7, 0.3]);
    assert(index.domains[0].train.shards.length > 10, "several shards");
    const shards = await Shards.open(files, join(folder, "out"));
    await shards.verify();
    const all = (await Promise.all([0, 1].flatMap((d) => [
      documentsIn(shards, d, "train"),
      documentsIn(shards, d, "validation"),
    ]))).flat();
    assertEquals(all.length, 150);
    assert(all.includes(randomDocument(339, 50 + 339 % 40).join(" ")));
    assert((await prepareIn(folder, config)).before, "what is there is not made again");
    assertEquals(await files.list(folder), ["in", "out"], "nothing is left over");
  });
});

/** Files that fail with `error` at the `at`-th write. */
function failing(at: number, error: () => Error): FileStore {
  let count = 0;
  return {
    ...files,
    async write(path, position, bytes) {
      if (++count !== at) return await files.write(path, position, bytes);
      // What a kill or a full disk leaves: a part of it.
      await files.write(path, position, bytes.slice(0, bytes.length >> 1));
      throw error();
    },
  };
}

Deno.test("the same bytes again, in another folder, and after being killed anywhere", async () => {
  await inFolder(async (folder) => {
    await writeInputs(folder);
    const options = { checkpointBytes: 4_000 };
    await prepareIn(folder, config, options);
    const expected = await contents(join(folder, "out"));
    let kills = 0;
    for (let at = 1;; at = 2 * at + 1) {
      await Deno.remove(join(folder, "out"), { recursive: true });
      const killed = await prepareIn(folder, config, {
        ...options,
        files: failing(at, () => new Error("killed")),
      }).then(() => false, (error) => error.message === "killed");
      if (!killed) break;
      kills++;
      // The second one is killed too, a little later.
      await prepareIn(folder, config, { ...options, files: failing(3, () => new Error("killed")) }).catch(
        () => {},
      );
      const { before } = await prepareIn(folder, config, options);
      assert(!before || at > 50);
      assertEquals(await contents(join(folder, "out")), expected, `killed at write ${at}`);
    }
    assert(kills >= 5, `${kills} kills`);
  });
});

Deno.test("a full disk is told with what to do, and the next call goes on", async () => {
  await inFolder(async (folder) => {
    await writeInputs(folder);
    const full = () => Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
    const error = await assertRejects(() => prepareIn(folder, config, { files: failing(6, full) }), Error);
    assertEquals(error.name, "DataError");
    assertStringIncludes(error.message, "The disk is full");
    assertStringIncludes(error.message, "goes on from where it was");
    assert(!(await prepareIn(folder, config)).before);
  });
});

Deno.test("other input or another configuration begins anew; another output folder is not overwritten", async () => {
  await inFolder(async (folder) => {
    await writeInputs(folder);
    await assertRejects(
      () => prepareIn(folder, config, { files: failing(8, () => new Error("killed")) }),
      Error,
      "killed",
    );
    await Deno.writeTextFile(join(folder, "in", "a.txt"), `\n${randomDocument(900, 80).join(" ")}\n`, {
      append: true,
    });
    assertEquals((await prepareIn(folder, config)).report.mixed.documents, 121);
    await assertRejects(() => prepareIn(folder, { ...config, seed: 2 }), Error, "prepared from other files");
    await Deno.writeTextFile(join(folder, "own"), "mine");
    await assertRejects(() => prepareIn(folder, { ...config, output: "own" }), Error, "is a file");
    await assertRejects(() => prepareIn(folder, { ...config, output: "in" }), Error, "holds something else");
  });
});

Deno.test("damaged files are named with their place", async () => {
  await inFolder(async (folder) => {
    const write = (name: string, bytes: string | Uint8Array) =>
      Deno.writeFile(join(folder, name), typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    const text = randomDocument(1, 60).join(" "), line = JSON.stringify({ text });
    await write("broken.jsonl", `${line}\n${line}\n{"text": "never\n${line}\n`);
    await write("field.jsonl", `${line}\n{"body": "x"}\n`);
    await write("latin.txt", Uint8Array.of(104, 105, 10, 0xe4, 0xf6));
    await write("zero.txt", "a\0b");
    const table = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: "text", data: [text], type: "STRING" }] }),
    );
    await write("cut.parquet", table.slice(0, table.length - 20));
    const bent = table.slice();
    bent.fill(0xff, 8, 40);
    await write("bent.parquet", bent);
    await write("no.parquet", "no table at all, but long enough");
    const run = (file: string, more = {}) => () =>
      prepareIn(folder, { domain: [{ name: "x", files: [file], documents: "line", ...more }] });
    await assertRejects(run("broken.jsonl"), Error, "broken.jsonl:3 is not valid JSON");
    await assertRejects(
      run("field.jsonl"),
      Error,
      `field.jsonl:2 has no text in the field "text" (it has "body"`,
    );
    await assertRejects(run("latin.txt"), Error, "latin.txt:2 is not UTF-8");
    await assertRejects(run("zero.txt"), Error, "holds zero bytes");
    await assertRejects(run("cut.parquet"), Error, "cut.parquet cannot be read as Parquet");
    await assertRejects(run("bent.parquet"), Error, "bent.parquet cannot be read as Parquet");
    await assertRejects(run("no.parquet"), Error, "no.parquet cannot be read as Parquet");
    await assertRejects(run("*.csv"), Error, "No file matches");
    await assertRejects(run("missing.txt"), Error, "There is no file or folder");
    const many = Array.from(
      { length: 60 },
      (_, i) => JSON.stringify({ text: randomDocument(i, 50).join(" ") }),
    );
    await write("some.jsonl", [...many, "{", "7"].join("\n"));
    const { report } = await prepareIn(folder, {
      validation: 0.2,
      domain: [{ name: "x", files: ["some.jsonl"], broken: "drop" }],
    });
    assertEquals(report.x.dropped.broken!["lines that could not be read"], {
      documents: 2,
      bytes: 0,
      samples: ["some.jsonl:61", "some.jsonl:62"],
    });
  });
});

Deno.test("languages, quality and lists of words leave what they should; nothing left is an error", async () => {
  await inFolder(async (folder) => {
    const english = (i: number) =>
      `In the year ${1900 + i} the ${randomDocument(i, 40).join(" ")} of the house.`;
    const lines = [
      ...Array.from({ length: 60 }, (_, i) => english(i)),
      "Der schnelle braune Fuchs springt über den faulen Hund, und niemand im ganzen Dorf hat es gesehen.",
      "今天天气很好，我们一起去公园散步，看到许多美丽的花朵和小鸟，大家都觉得非常高兴。",
      "$$$ 1234 5678 %%% 90 --- 12 34 56 78 90 12 !!! ???",
      "buy now ".repeat(60),
      `Somebody said Flibbertigibbet here: ${english(77)}`,
      "short",
    ];
    await Deno.writeTextFile(join(folder, "t.txt"), lines.join("\n"));
    await Deno.writeTextFile(join(folder, "words.txt"), "# a list\nflibbertigibbet\n小鸟\n");
    const domain = [{ name: "x", files: ["t.txt"], documents: "line" }];
    const base = { validation: 0.2, toxic: { lists: ["words.txt"] }, domain };
    const { report } = await prepareIn(folder, { ...base, languages: ["en", "zh"] });
    const count = (step: "language" | "quality" | "toxic") =>
      Object.fromEntries(
        Object.entries(report.x.dropped[step]!).map(([key, { documents }]) => [key, documents]),
      );
    assertEquals(count("language"), { de: 1 });
    assertEquals(count("quality"), { "few letters": 1, "repeated pieces": 1, "too short": 1 });
    assertEquals(count("toxic"), { "words of the lists": 2 });
    const swedish = await assertRejects(
      () => prepareIn(folder, { ...base, output: "none", languages: ["sv"] }),
      Error,
    );
    assertStringIncludes(swedish.message, `Nothing is left of the domain "x"`);
    assertStringIncludes(swedish.message, "other languages");
    assertStringIncludes(swedish.message, "Languages that stay: sv");
    assertThrows(
      () => readConfig({ ...base, output: "o", tokenizer: "bytes", languages: ["xx"] }, String),
      Error,
      `"xx"`,
    );
  });
});

Deno.test("a tokenizer that does not cover the text is refused", async () => {
  await inFolder(async (folder) => {
    const lines = Array.from({ length: 60 }, (_, i) => randomDocument(i, 50).join(" "));
    await Deno.writeTextFile(join(folder, "t.txt"), lines.join("\n"));
    const vocab = Object.fromEntries([..."abcdefghijklm "].map((letter, i) => [letter, i]));
    const model = {
      type: "BPE",
      vocab,
      merges: [],
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
    };
    const json = { version: "1.0", added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null };
    const write = (name: string, model: unknown) =>
      Deno.writeTextFile(join(folder, name), JSON.stringify({ ...json, post_processor: null, model }));
    await write("none.json", { ...model, unk_token: null });
    await write("unknown.json", { ...model, unk_token: "[UNK]", vocab: { ...vocab, "[UNK]": 14 } });
    for (const tokenizer of ["none.json", "unknown.json"]) {
      const domain = [{ name: "x", files: ["t.txt"], documents: "line" }];
      const error = await assertRejects(
        () => prepareIn(folder, { tokenizer, validation: 0.2, domain }),
        Error,
      );
      assertEquals(error.name, "TokenizerError");
      assertStringIncludes(error.message, "does not cover the text");
    }
    await assertRejects(
      () => prepareIn(folder, { tokenizer: "absent.json", domain: [{ name: "x", files: ["t.txt"] }] }),
      Error,
      "absent.json",
    );
  });
});

Deno.test("a configuration is refused with its places", () => {
  const read = (text: string) => () => parseConfig(`output = "o"\ntokenizer = "bytes"\n${text}`, String);
  const domain = (name: string, more: string) => `[[domain]]\nname = "${name}"\nfiles = ["f"]\n${more}\n`;
  read(domain("a", ""))();
  for (
    const [text, said] of [
      [domain("a", "proportion = 0.6") + domain("b", "proportion = 0.6"), "add up to 1.2 (a 0.6, b 0.6)"],
      [domain("a", "proportion = 0.6") + domain("b", ""), `"b" has no proportion`],
      [domain("a", "") + domain("a", ""), `Two domains are called "a"`],
      [domain("a", "dokuments = 1"), `[[domain]] 1: there is no key "dokuments"; known: name, files`],
      [domain("A b", ""), "[[domain]] 1: name: takes a-z"],
      ["validation = 0.9\n" + domain("a", ""), "validation:"],
      ["[quality]\nshortest = -1\n" + domain("a", ""), "[quality]: shortest:"],
      ["x = = 1", "not valid TOML"],
    ]
  ) assertStringIncludes(assertThrows(read(text), Error).message, said);
});
