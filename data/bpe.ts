/**
 * Trains a byte-level BPE (Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", 2016;
 * over bytes as in GPT-2). It covers every text: what no merge reaches stays bytes.
 *
 * Words are counted, each different word is kept once as a chain of symbols, and for every pair of neighbours there is its
 * count and where it stands. A merge visits only those places, so that the whole training takes little more than one pass.
 *
 * @module
 */
import { bpeFiles, type Merge, wordPattern } from "../model/text/bpe_tokenizer.ts";
import { visibleBytes } from "../model/text/byte_tokenizer.ts";
import { PairHeap } from "../model/text/pair_heap.ts";
import { DataError } from "./errors.ts";

/** Ids that are no merges: 256 bytes, and beginning, end and padding. */
export const fixedEntries = 256 + 3;
/** Largest vocabulary: pairs are numbered by two symbols of 16 bits. */
export const mostEntries = 1 << 16;

/** A trained tokenizer. */
export interface TrainedBpe {
  readonly merges: readonly Merge[];
  /** Entries in all: bytes, merges, and three special ones. */
  readonly entries: number;
  /** tokenizer.json and tokenizer_config.json. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
}

/** Counts words of texts that come one by one. */
export class WordCounts {
  readonly counts = new Map<string, number>();
  readonly #pattern = new RegExp(wordPattern, "gu");

  add(text: string): void {
    for (const [word] of text.toWellFormed().matchAll(this.#pattern)) {
      this.counts.set(word, (this.counts.get(word) ?? 0) + 1);
    }
  }
}

/** Options of {@linkcode trainBpe}. */
export interface TrainOptions {
  /** Entries wanted in all; fewer come out where no pair is there twice any more. */
  readonly entries: number;
  /** Called now and then. */
  readonly tell?: (done: number, all: number) => void;
}

/** Trains on counted words. The same counts give the same tokenizer, whatever their order. @throws {DataError} */
export function trainBpe(words: WordCounts, { entries, tell = () => {} }: TrainOptions): TrainedBpe {
  if (!Number.isInteger(entries) || entries < fixedEntries || entries > mostEntries) {
    throw new DataError(
      `A tokenizer of ${entries} entries cannot be made: from ${fixedEntries} (bytes and three special tokens) to ${mostEntries} ` +
        `are possible.`,
    );
  }
  if (words.counts.size === 0) throw new DataError("There is no text to make a tokenizer from.");
  const chains = new Chains(words.counts), wanted = entries - fixedEntries;
  const merges: Merge[] = [],
    letters = visibleBytes(),
    ids = new Map(letters.map((letter, id) => [letter, id]));
  while (ids.size < 256 + wanted) {
    const pair = chains.mostFrequent();
    if (pair === undefined) break;
    const [left, right] = pair, token = letters[left] + letters[right];
    let id = ids.get(token); // other pairs may have made the same token before
    if (id === undefined) {
      id = letters.push(token) - 1;
      ids.set(token, id);
    }
    merges.push([left, right, id]);
    chains.merge(left, right, id);
    if (merges.length % 64 === 0) tell(merges.length, wanted);
  }
  return { merges, entries: ids.size + 3, files: bpeFiles(merges) };
}

/** Places of a pair; some may be out of date, which the symbols there show. */
interface Pair {
  count: number;
  places: Int32Array;
  length: number;
}

/** All different words as chains of symbols, with the pairs of neighbours. */
class Chains {
  readonly #symbols: Int32Array;
  /** Index of the neighbour, or -1 at a word's end. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** How often the word of each place is there. */
  readonly #weight: Float64Array;
  readonly #pairs = new Map<number, Pair>();
  readonly #heap = new PairHeap();

  constructor(counts: ReadonlyMap<string, number>) {
    const encoder = new TextEncoder();
    // In a fixed order, so that equal counts are met in the same one.
    const words = [...counts.keys()].filter((word) => word.length > 0).sort();
    const bytes = words.map((word) => encoder.encode(word));
    const length = bytes.reduce((sum, word) => sum + word.length, 0);
    this.#symbols = new Int32Array(length);
    this.#next = new Int32Array(length);
    this.#previous = new Int32Array(length);
    this.#weight = new Float64Array(length);
    let at = 0;
    for (const [w, word] of bytes.entries()) {
      const weight = counts.get(words[w])!;
      for (let i = 0; i < word.length; i++, at++) {
        this.#symbols[at] = word[i];
        this.#previous[at] = i === 0 ? -1 : at - 1;
        this.#next[at] = i === word.length - 1 ? -1 : at + 1;
        this.#weight[at] = weight;
      }
    }
    for (let i = 0; i < length; i++) {
      const next = this.#next[i];
      if (next >= 0) this.#add(this.#symbols[i], this.#symbols[next], this.#weight[i], i);
    }
    for (const [key, { count }] of this.#pairs) this.#heap.push(count, key);
  }

  /** The pair that is there most often (of equals the one with the smaller ids); undefined if none is there twice. */
  mostFrequent(): [number, number] | undefined {
    for (;;) {
      const top = this.#heap.pop();
      if (top === undefined) return undefined;
      const count = this.#pairs.get(top.key)?.count ?? 0;
      if (count < 2) continue;
      // Counts that rise are put in again at once; one that fell goes back with what it is now.
      if (count !== top.count) this.#heap.push(count, top.key);
      else return [Math.floor(top.key / mostEntries), top.key % mostEntries];
    }
  }

  /** Puts `id` wherever `left` stands before `right`, from left to right. */
  merge(left: number, right: number, id: number): void {
    const symbols = this.#symbols, next = this.#next, previous = this.#previous;
    const key = left * mostEntries + right, { places, length } = this.#pairs.get(key)!;
    const made = new Set<number>();
    for (let p = 0; p < length; p++) {
      const a = places[p], b = next[a];
      if (symbols[a] !== left || b < 0 || symbols[b] !== right) continue;
      const before = previous[a], after = next[b], weight = this.#weight[a];
      if (before >= 0) {
        this.#take(symbols[before], left, weight);
        made.add(this.#add(symbols[before], id, weight, before));
      }
      if (after >= 0) {
        this.#take(right, symbols[after], weight);
        made.add(this.#add(id, symbols[after], weight, a));
        previous[after] = a;
      }
      symbols[a] = id;
      symbols[b] = -1;
      next[a] = after;
    }
    this.#pairs.delete(key);
    for (const key of made) {
      const count = this.#pairs.get(key)?.count ?? 0;
      if (count > 1) this.#heap.push(count, key);
    }
  }

  #add(left: number, right: number, weight: number, place: number): number {
    const key = left * mostEntries + right;
    let pair = this.#pairs.get(key);
    if (pair === undefined) this.#pairs.set(key, pair = { count: 0, places: new Int32Array(4), length: 0 });
    if (pair.length === pair.places.length) {
      const larger = new Int32Array(2 * pair.length);
      larger.set(pair.places);
      pair.places = larger;
    }
    pair.places[pair.length++] = place;
    pair.count += weight;
    return key;
  }

  #take(left: number, right: number, weight: number): void {
    const pair = this.#pairs.get(left * mostEntries + right);
    if (pair !== undefined) pair.count -= weight;
  }
}
