/** Text: files, documents, validation, ids. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { TextError } from "../../model/errors.ts";
import {
  bitsPerByte,
  readDocumentFile,
  splitDocuments,
  splitValidation,
  tokenizeDocuments,
} from "../../model/text/text.ts";
import { MemoryStorage } from "../memory_storage.ts";

const paragraphs = (count: number) =>
  Array.from({ length: count }, (_, i) => `title ${i}\nbody ${i} 中文\n\n`);

Deno.test("files that are no text are refused, each with its reason", async () => {
  const files = new MemoryStorage();
  const cases: [string, Uint8Array<ArrayBuffer>, string][] = [
    ["empty", new Uint8Array(0), "it is empty"],
    ["blank", new TextEncoder().encode(" \n\t\n"), "it is empty"],
    ["zero", new TextEncoder().encode("abc\0def"), "binary"],
    ["latin", Uint8Array.of(0x61, 0xe9, 0x62), "not UTF-8"],
    ["png", Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d), "not UTF-8"],
  ];
  for (const [name, bytes, part] of cases) {
    files.files.set(name, bytes);
    await assertRejects(() => readDocumentFile(files, name), TextError, part);
  }
  await assertRejects(() => readDocumentFile(files, "missing"), TextError, "no such file");
  files.text("good", "\ufeffgood");
  assertEquals(await readDocumentFile(files, "good"), "good");
});

Deno.test("documents are paragraphs, or groups of lines where there are no blank ones", () => {
  assertEquals(splitDocuments("\n \n" + paragraphs(40).join("")).slice(1), paragraphs(40).slice(1));
  const lines = Array.from({ length: 40 }, (_, i) => `word ${i}\n`);
  assertEquals(splitDocuments(lines.join("")), [0, 16, 32].map((i) => lines.slice(i, i + 16).join("")));
  assertEquals(splitDocuments("a\n\nb"), ["a\n\nb"], "two paragraphs are too few to go by");
});

Deno.test("documents put together again are the text", () => {
  const line = fc.constantFrom("", " ", "\t", "one", "two words", "中", "\r");
  fc.assert(
    fc.property(fc.array(line, { maxLength: 300 }), fc.boolean(), (lines, end) => {
      const text = lines.join("\n") + (end ? "\n" : "");
      const documents = splitDocuments(text);
      assertEquals(documents.join(""), text);
      assert(documents.every((document) => document !== ""));
    }),
    { seed: 1 },
  );
});

Deno.test("validation takes its share by content, whatever stands around", () => {
  const documents = paragraphs(2000), { train, validation } = splitValidation(documents, 0.1, 3);
  assertEquals([...train, ...validation].sort(), [...documents].sort());
  assert(validation.length > 150 && validation.length < 250, `${validation.length} of 2000`);
  const longer = splitValidation([...paragraphs(2500).reverse(), ...documents], 0.1, 3);
  const kept = new Set(longer.validation);
  assert(validation.every((document) => kept.has(document)));
  assert(longer.train.every((document) => !kept.has(document)), "equal documents stay on one side");
  assert(splitValidation(documents, 0.1, 4).validation.join() !== validation.join());
  for (const share of [0, 1, -1, NaN]) assertThrows(() => splitValidation(documents, share, 3), TextError);
  assertThrows(() => splitValidation(["one"], 0.5, 3), TextError, "too few");
});

Deno.test("ids of documents, each within its marks; bytes are those of the text alone", () => {
  const { tokens, bytes } = tokenizeDocuments(["ab", "中"], byteTokenizer());
  assertEquals([...tokens], [256, 97, 98, 257, 256, 0xe4, 0xb8, 0xad, 257]);
  assertEquals(bytes, 5);
  const plain = { ...byteTokenizer(), prefix: [], eos: undefined };
  assertEquals([...tokenizeDocuments(["ab", "c"], plain).tokens], [97, 98, 99]);
});

Deno.test("bits per byte", () => assertEquals(bitsPerByte(10 * Math.log(256), 10), 8));
