/**
 * Lists of words that must not stand in a document, as their user supplies them.
 *
 * @module
 */
import { type FileReader, readText } from "../model/files.ts";
import { DataError } from "./errors.ts";
import { limits } from "./limits.ts";

/** See {@linkcode readWordLists}. */
export interface WordList {
  readonly entries: number;
  /** Different entries that a text holds. */
  count(text: string): number;
}

/** Scripts that put no spaces between words: their entries are found anywhere. */
const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;
const words = /[\p{L}\p{M}\p{N}]+/gu;

/**
 * Reads the lists: one word or phrase a line, '#' begins a comment. Letters match whatever their case.
 *
 * @throws {DataError} for a list that is missing, empty, too long or not UTF-8.
 */
export async function readWordLists(files: FileReader, paths: readonly string[]): Promise<WordList> {
  const spaced = new Map<string, number>(), anywhere = new Set<string>();
  let longest = 0;
  for (const path of paths) {
    let text: string | undefined;
    try {
      text = await readText(files, path);
    } catch (error) {
      throw new DataError(`The list of words ${path} cannot be read: ${(error as Error).message}`);
    }
    if (text === undefined) throw new DataError(`There is no list of words ${path}.`);
    let entries = 0;
    for (const line of text.split("\n")) {
      const entry = line.replace(/#.*/, "").trim().normalize("NFC").toLowerCase();
      if (entry === "") continue;
      entries++;
      if (unspaced.test(entry)) anywhere.add(entry);
      else {
        const parts = [...entry.matchAll(words)].map(([word]) => word);
        if (parts.length === 0) continue;
        spaced.set(parts.join(" "), parts.length);
        longest = Math.max(longest, parts.length);
      }
    }
    if (entries === 0) throw new DataError(`The list of words ${path} has no entry.`);
    if (spaced.size + anywhere.size > limits.listEntries) {
      throw new DataError(`The lists of words have more than ${limits.listEntries} entries.`);
    }
  }
  const lengths = [...new Set([...anywhere].map((entry) => entry.length))];
  return {
    entries: spaced.size + anywhere.size,
    count(text) {
      const lower = text.toLowerCase(), found = new Set<string>();
      if (spaced.size > 0) {
        const recent: string[] = [];
        for (const [word] of lower.matchAll(words)) {
          recent.push(word);
          if (recent.length > longest) recent.shift();
          for (let n = 1; n <= recent.length; n++) {
            const phrase = n === 1 ? word : recent.slice(-n).join(" ");
            if (spaced.has(phrase)) found.add(phrase);
          }
        }
      }
      for (let i = 0; i < lower.length && lengths.length > 0; i++) {
        for (const length of lengths) {
          const piece = lower.slice(i, i + length);
          if (anywhere.has(piece)) found.add(piece);
        }
      }
      return found.size;
    },
  };
}
