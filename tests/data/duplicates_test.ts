/** A planted corpus: what is there twice leaves, and nothing that is like a validation document is trained on. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Shards } from "../../data/shards.ts";
import { randomStream } from "../../model/random.ts";
import { documentsIn, files, inFolder, nearCopy, prepareIn, randomDocument, wordJaccard } from "./corpora.ts";

const originals = 400, exactCopies = 80, nearCopies = 150;

interface Planted {
  readonly lines: string[];
  /** Number of the original in each line's document; copies share it. */
  readonly of: Map<string, number>;
}

/** Documents of 60 to 240 words, exact copies (some with other spaces) and near copies, shuffled. */
function plant(pieces: number): Planted {
  const documents = Array.from({ length: originals }, (_, i) => randomDocument(i, 60 + (i * 37) % 180));
  const lines: string[] = [], of = new Map<string, number>();
  documents.forEach((document, i) => {
    const text = document.join(" ");
    lines.push(text);
    of.set(text, i);
    if (i < exactCopies) lines.push(i % 3 === 0 ? `  ${text}  \r` : text);
    if (i >= originals - nearCopies) {
      const copy = nearCopy(document, i, pieces, 0.8).join(" ");
      lines.push(copy);
      of.set(copy, i);
    }
  });
  const stream = randomStream(1, "shuffle");
  for (let i = lines.length - 1; i > 0; i--) {
    const j = stream.integer(i + 1);
    [lines[i], lines[j]] = [lines[j], lines[i]];
  }
  return { lines, of };
}

// 0.8 means something else with each way of counting pieces.
for (const pieces of [5, 3]) {
  Deno.test(`exact and near duplicates (Jaccard 0.8 of pieces of ${pieces} words) are removed`, async () => {
    await inFolder(async (folder) => {
      const { lines, of } = plant(pieces);
      await Deno.writeTextFile(join(folder, "lines.txt"), lines.join("\n"));
      const { report } = await prepareIn(folder, {
        validation: 0.1,
        domain: [{ name: "planted", files: ["lines.txt"], documents: "line" }],
      });
      const shards = await Shards.open(files, join(folder, "out"));
      await shards.verify();
      const train = await documentsIn(shards, 0, "train"),
        validation = await documentsIn(shards, 0, "validation");
      const kept = [...train, ...validation];
      assertEquals(report.planted.documents, originals + exactCopies + nearCopies);
      assertEquals(report.planted.dropped.exact?.["exact duplicates"].documents, exactCopies);
      assertEquals(new Set(kept).size, kept.length, "no document is there twice");
      // Every original is still there, itself or as its near copy, and hardly any in both forms.
      const numbers = kept.map((text) => of.get(text)!);
      assertEquals(new Set(numbers).size, originals);
      const removed = originals + nearCopies - kept.length;
      assert(removed >= 0.95 * nearCopies, `${removed} of ${nearCopies} near copies removed`);
      // Nothing leaks: no document of training is like one of validation.
      assert(validation.length > 20);
      for (const held of validation) {
        const twin = train.find((text) => of.get(text) === of.get(held));
        assert(twin === undefined || wordJaccard(twin.split(" "), held.split(" "), pieces) < 0.8, held);
      }
    });
  });
}

Deno.test("without removal of duplicates, copies of validation documents leave training all the same", async () => {
  await inFolder(async (folder) => {
    const { lines, of } = plant(5);
    await Deno.writeTextFile(join(folder, "lines.txt"), lines.join("\n"));
    const { report } = await prepareIn(folder, {
      validation: 0.2,
      deduplicate: { exact: false, near: false },
      domain: [{ name: "planted", files: ["lines.txt"], documents: "line" }],
    });
    const shards = await Shards.open(files, join(folder, "out"));
    const held = new Set((await documentsIn(shards, 0, "validation")).map((text) => of.get(text)));
    const train = (await documentsIn(shards, 0, "train")).map((text) => of.get(text));
    assertEquals(train.filter((number) => held.has(number)), []);
    assert(report.planted.dropped.leak!["like validation documents"].documents > 10);
    assert(train.length + held.size > originals, "other copies stay");
  });
});
