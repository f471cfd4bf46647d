/**
 * Which documents are there twice: exactly, or nearly (MinHash with locality-sensitive hashing; every candidate's
 * similarity is computed exactly). Of each set the first document stays. Memory is bounded: signatures lie on the disk, keys
 * are sorted a limited number at a time, and each document takes one sketch of 16 bytes.
 *
 * @module
 */
import type { FileStore } from "../model/files.ts";
import { joinPath } from "../model/files.ts";
import { type DocumentStore, fate } from "./document_store.ts";
import { limits } from "./limits.ts";
import {
  bandKey,
  type Bands,
  bandsFor,
  jaccard,
  mayBeAlike,
  permutations,
  piecesOf,
  signatureOf,
  sketchOf,
  sketchWords,
} from "./minhash.ts";

/** Told of each document that leaves, and of the one that it is like. */
export type Found = (document: number, like: number) => Promise<void>;

/** Called now and then, so that a long search can be watched and stopped. */
export type Pause = (done: number, all: number) => Promise<void>;

/** Documents between two pauses. */
const documentsOfPause = 512;

/** Hashes held at a time by {@linkcode markExact}: about 100 bytes each in a map. */
const hashesOfPass = 1 << 21;

/** Marks every document whose text, white space aside, an earlier one has (by a hash of 64 bits). */
export async function markExact(store: DocumentStore, found: Found, pause: Pause): Promise<void> {
  const { count, hashes } = store;
  const passes = Math.max(1, Math.ceil(count / hashesOfPass));
  for (let pass = 0; pass < passes; pass++) {
    const first = new Map<bigint, number>();
    const key = new DataView(new ArrayBuffer(8));
    for (let i = 0; i < count; i++) {
      if (i % (documentsOfPause * 16) === 0) await pause(pass * count + i, passes * count);
      if (hashes[2 * i] % passes !== pass || !store.kept(i)) continue;
      key.setUint32(0, hashes[2 * i]);
      key.setUint32(4, hashes[2 * i + 1]);
      const hash = key.getBigUint64(0), before = first.get(hash);
      if (before === undefined) first.set(hash, i);
      else {
        store.fates[i] = fate.exact;
        await found(i, before);
      }
    }
  }
}

/** Documents of a block of the signatures' file; in it the values of one hash function lie together. */
const blockDocuments = 4_096;
const blockWords = blockDocuments * permutations;

/** Signatures of the documents that are in, for the searches below. */
export class Signatures {
  private constructor(
    readonly files: FileStore,
    readonly path: string,
    readonly store: DocumentStore,
    readonly sketches: Uint32Array,
  ) {}

  /** Computes and writes them. */
  static async write(
    files: FileStore,
    folder: string,
    store: DocumentStore,
    pause: Pause,
  ): Promise<Signatures> {
    const path = joinPath(folder, "signatures");
    const sketches = new Uint32Array(store.count * sketchWords), one = new Uint32Array(permutations);
    for (let first = 0; first < store.count; first += blockDocuments) {
      const block = new Uint32Array(blockWords);
      for (let i = first; i < Math.min(store.count, first + blockDocuments); i++) {
        if ((i - first) % documentsOfPause === 0) await pause(i, store.count);
        if (!store.kept(i)) continue;
        signatureOf(piecesOf(await store.text(i)), one);
        sketchOf(one, sketches, i * sketchWords);
        for (let p = 0; p < permutations; p++) block[p * blockDocuments + i - first] = one[p];
      }
      await files.write(path, first * permutations * 4, new Uint8Array(block.buffer));
    }
    return new Signatures(files, path, store, sketches);
  }

  /** The key of one band of each document that is in, in order. */
  async *keys(
    { rows }: Bands,
    band: number,
    pause: Pause,
  ): AsyncGenerator<[document: number, key: number][]> {
    for (let first = 0; first < this.store.count; first += blockDocuments) {
      await pause(first, this.store.count);
      const at = (first * permutations + band * rows * blockDocuments) * 4;
      const bytes = await this.files.read(this.path, at, at + rows * blockDocuments * 4);
      const values = new Uint32Array(bytes.buffer), keys: [number, number][] = [];
      const last = Math.min(this.store.count, first + blockDocuments);
      for (let i = first; i < last; i++) {
        if (this.store.kept(i)) keys.push([i, bandKey(values, i - first, rows, blockDocuments)]);
      }
      yield keys;
    }
  }
}

/** Pieces of texts compared last that are kept: 32 MiB. */
const mostPieces = 8 << 20;

/** Says whether two documents are alike: by their sketches first, then exactly. */
class Comparison {
  readonly #pieces = new Map<number, Uint32Array>();
  #held = 0;

  constructor(readonly signatures: Signatures, readonly threshold: number) {}

  async alike(a: number, b: number): Promise<boolean> {
    const { sketches } = this.signatures;
    if (!mayBeAlike(sketches, a * sketchWords, b * sketchWords, this.threshold)) return false;
    return jaccard(await this.#of(a), await this.#of(b)) >= this.threshold;
  }

  async #of(document: number): Promise<Uint32Array> {
    const held = this.#pieces.get(document);
    if (held !== undefined) return held;
    const pieces = piecesOf(await this.signatures.store.text(document));
    this.#pieces.set(document, pieces);
    this.#held += pieces.length;
    for (const [oldest, { length }] of this.#pieces) {
      if (this.#held <= mostPieces || oldest === document) break;
      this.#pieces.delete(oldest);
      this.#held -= length;
    }
    return pieces;
  }
}

/** A pair at the threshold is found with at least this probability; among copies of validation text next to none is missed. */
const recallOfDuplicates = 0.999, recallOfLeaks = 1 - 1e-5;
/** Members of a bucket that a later one is compared with: beyond that the bucket says little. */
const mostCompared = 32;

/** Marks every document that is like an earlier one which stays. */
export async function markNear(
  signatures: Signatures,
  threshold: number,
  found: Found,
  pause: Pause,
): Promise<void> {
  const { store } = signatures, bands = bandsFor(threshold, recallOfDuplicates);
  const comparison = new Comparison(signatures, threshold);
  const passes = Math.max(1, Math.ceil(store.count / limits.sortedKeys));
  const sorted = new BigUint64Array(Math.min(store.count, 2 * limits.sortedKeys));
  const words = new Uint32Array(sorted.buffer); // little-endian: document, then key
  for (let round = 0; round < bands.count * passes; round++) {
    const band = Math.floor(round / passes), pass = round % passes;
    let length = 0;
    const watch: Pause = (done, all) => pause(round * all + done, bands.count * passes * all);
    for await (const keys of signatures.keys(bands, band, watch)) {
      for (const [document, key] of keys) {
        if (key % passes !== pass || length === sorted.length) continue;
        words[2 * length] = document;
        words[2 * length + 1] = key;
        length++;
      }
    }
    sorted.subarray(0, length).sort();
    for (let begin = 0, end = 0; begin < length; begin = end) {
      end = begin + 1;
      while (end < length && words[2 * end + 1] === words[2 * begin + 1]) end++;
      if (end - begin > 1) await bucket(words, begin, end, store, comparison, found);
    }
  }
}

/** Compares the documents of one bucket, which are in order. */
async function bucket(
  words: Uint32Array,
  begin: number,
  end: number,
  store: DocumentStore,
  comparison: Comparison,
  found: Found,
): Promise<void> {
  const staying: number[] = [];
  for (let i = begin; i < end; i++) {
    const document = words[2 * i];
    let like: number | undefined;
    for (const earlier of staying) {
      if (await comparison.alike(earlier, document)) {
        like = earlier;
        break;
      }
    }
    if (like === undefined) {
      if (staying.length < mostCompared) staying.push(document);
    } else {
      store.fates[document] = fate.near;
      await found(document, like);
    }
  }
}

/** Marks every training document that is like a validation document. */
export async function markLeaks(
  signatures: Signatures,
  threshold: number,
  found: Found,
  pause: Pause,
): Promise<void> {
  const { store } = signatures, bands = bandsFor(threshold, recallOfLeaks);
  const comparison = new Comparison(signatures, threshold);
  for (let band = 0; band < bands.count; band++) {
    const held = new Map<number, number[]>();
    for await (const keys of signatures.keys(bands, band, () => Promise.resolve())) {
      for (const [document, key] of keys) {
        if (store.fates[document] !== fate.validation) continue;
        const others = held.get(key);
        if (others === undefined) held.set(key, [document]);
        else others.push(document);
      }
    }
    const watch: Pause = (done, all) => pause(band * all + done, bands.count * all);
    for await (const keys of signatures.keys(bands, band, watch)) {
      for (const [document, key] of keys) {
        if (store.fates[document] !== fate.train) continue;
        for (const other of held.get(key) ?? []) {
          if (!await comparison.alike(other, document)) continue;
          store.fates[document] = fate.leak;
          await found(document, other);
          break;
        }
      }
    }
  }
}
