/**
 * Byte-level BPE as `volary data bpe` makes it. Its tokenizer.json opens in Hugging Face's libraries; here it is read by code
 * of our own, which gives the same ids many times faster.
 *
 * @module
 */
import { byteLevelFiles, decoding, isByteLevel, visibleBytes } from "./byte_tokenizer.ts";
import { PairHeap } from "./pair_heap.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Two ids that become a third. */
export type Merge = readonly [left: number, right: number, id: number];

/**
 * How a text is cut before merges: letters with a character before them that is none and a single digit after them (H2, the
 * tones of pinyin), digits by up to three, runs of signs, white space up to line ends (after GPT-4's cl100k). No merge
 * crosses a cut.
 */
export const wordPattern =
  "(?:'[sdmt]|'ll|'ve|'re)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+(?:\\p{N}(?!\\p{N}))?|\\p{N}{1,3}|" +
  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const preTokenizers = [{
  type: "Split",
  pattern: { Regex: wordPattern },
  behavior: "Isolated",
  invert: false,
}];

/** tokenizer.json and tokenizer_config.json of merges in order of rank. */
export function bpeFiles(merges: readonly Merge[]): Map<string, Uint8Array<ArrayBuffer>> {
  const letters = visibleBytes();
  const shown = merges.map(([left, right, id]): [string, string] => {
    letters[id] = letters[left] + letters[right];
    return [letters[left], letters[right]];
  });
  return byteLevelFiles({ merges: shown, preTokenizers });
}

/** The tokenizer of a parsed tokenizer.json, or undefined if {@linkcode bpeFiles} did not make it. */
export function bpeTokenizer(json: Record<string, unknown>): Tokenizer | undefined {
  const { merges, vocab } = (json.model ?? {}) as { merges?: unknown; vocab?: unknown };
  if (!Array.isArray(merges) || typeof vocab !== "object" || vocab === null) return undefined;
  if (!merges.every((merge) => typeof merge === "string" && merge.split(" ").length === 2)) return undefined;
  const shown = merges.map((merge) => merge.split(" ") as [string, string]);
  if (!isByteLevel(json, { merges: shown, preTokenizers })) return undefined;
  const ids = new Map(Object.entries(vocab as Record<string, number>));
  const numbers = shown.map(([l, r]): Merge => [ids.get(l)!, ids.get(r)!, ids.get(l + r)!]);
  return tokenizerOf(new BpeEncoder(numbers), ids.size);
}

function tokenizerOf(encoder: BpeEncoder, entries: number): Tokenizer {
  const bytesOf = (ids: ArrayLike<number>) => encoder.decode(Array.from(ids).filter((id) => id < entries));
  return {
    vocabSize: entries + 3,
    encode: (text) => encoder.text(text),
    ...decoding(bytesOf),
    bos: entries,
    eos: entries + 1,
    prefix: [entries],
  };
}

/** Words whose ids are remembered, and the longest of them in characters. */
const wordsKept = 1 << 17, longestKept = 64;
/** Symbols of a word up to which looking through all pairs again after each merge is quickest. */
const shortWord = 96;

/** Ids of bytes and texts by merges; the id of a merge is 256 or more. */
export class BpeEncoder {
  /** Rank of a pair of ids. */
  readonly #ranks = new Map<number, number>();
  readonly #pieces: Uint8Array[] = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  readonly #words = new Map<string, readonly number[]>();
  readonly #pattern = new RegExp(wordPattern, "gu");
  readonly #utf8 = new TextEncoder();

  constructor(readonly merges: readonly Merge[]) {
    merges.forEach(([left, right, id], rank) => {
      this.#ranks.set(keyOf(left, right), rank);
      this.#pieces[id] ??= Uint8Array.of(...this.#pieces[left], ...this.#pieces[right]);
    });
  }

  /** Ids of a text; a lone surrogate is U+FFFD. */
  text(text: string): Uint32Array<ArrayBuffer> {
    const ids: number[] = [];
    for (const [word] of text.toWellFormed().matchAll(this.#pattern)) {
      let known = this.#words.get(word);
      if (known === undefined) {
        known = this.bytes(this.#utf8.encode(word));
        if (word.length <= longestKept) {
          if (this.#words.size >= wordsKept) this.#words.clear();
          this.#words.set(word, known);
        }
      }
      for (const id of known) ids.push(id);
    }
    return Uint32Array.from(ids);
  }

  /** Ids of one word's bytes, which may be any. */
  bytes(bytes: Uint8Array): number[] {
    return bytes.length <= shortWord ? this.#short([...bytes]) : this.#long(bytes);
  }

  /** The bytes of ids. */
  decode(ids: readonly number[]): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(ids.reduce((sum, id) => sum + this.#pieces[id].length, 0));
    let at = 0;
    for (const id of ids) {
      bytes.set(this.#pieces[id], at);
      at += this.#pieces[id].length;
    }
    return bytes;
  }

  #short(ids: number[]): number[] {
    for (;;) {
      let best = Infinity;
      for (let i = 0; i + 1 < ids.length; i++) {
        const rank = this.#ranks.get(keyOf(ids[i], ids[i + 1]));
        if (rank !== undefined && rank < best) best = rank;
      }
      if (best === Infinity) return ids;
      const [left, right, id] = this.merges[best];
      let kept = 0;
      for (let i = 0; i < ids.length; i++) {
        if (ids[i] === left && ids[i + 1] === right) {
          ids[kept++] = id;
          i++;
        } else ids[kept++] = ids[i];
      }
      ids.length = kept;
    }
  }

  /** As above, with a heap of pairs by rank and place: n log n. */
  #long(bytes: Uint8Array): number[] {
    const ids = Int32Array.from(bytes), length = ids.length;
    const next = Int32Array.from(ids, (_, i) => i + 1), previous = Int32Array.from(ids, (_, i) => i - 1);
    const heap = new PairHeap();
    const offer = (at: number) => {
      if (at < 0 || next[at] >= length) return;
      const rank = this.#ranks.get(keyOf(ids[at], ids[next[at]]));
      if (rank !== undefined) heap.push(-rank, at);
    };
    for (let i = 0; i < length; i++) offer(i);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const at = top.key, other = next[at], [left, right, id] = this.merges[-top.count];
      if (ids[at] !== left || other >= length || ids[other] !== right) continue;
      ids[at] = id;
      ids[other] = -1;
      next[at] = next[other];
      if (next[at] < length) previous[next[at]] = at;
      offer(previous[at]);
      offer(at);
    }
    return [...ids.filter((id) => id >= 0)];
  }
}

function keyOf(left: number, right: number): number {
  return left * 65_536 + right;
}
