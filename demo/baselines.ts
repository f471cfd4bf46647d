/**
 * What simple models of bytes reach on a text, for comparison.
 *
 * @module
 */
import { initModule, xzAsync } from "node-liblzma/wasm";
import { gzipSync } from "node:zlib";

/** A name and bits per byte. */
export interface Baseline {
  readonly name: string;
  readonly bitsPerByte: number;
}

/**
 * A byte unigram and a byte bigram counted on `train`, and gzip and xz of `validation` by itself, each in bits per byte
 * of `validation`.
 */
export async function baselines(train: Uint8Array, validation: Uint8Array): Promise<Baseline[]> {
  await initModule();
  const bits = (bytes: number) => bytes * 8 / validation.length;
  return [
    { name: "byte unigram", bitsPerByte: unigram(train, validation) },
    { name: "byte bigram", bitsPerByte: bigram(train, validation) },
    { name: "gzip -9", bitsPerByte: bits(gzipSync(validation, { level: 9 }).length) },
    { name: "xz -6", bitsPerByte: bits((await xzAsync(validation, { preset: 6 })).length) },
  ];
}

/** Add-one smoothing; cross-entropy in bits per byte. */
function unigram(train: Uint8Array, validation: Uint8Array): number {
  const counts = new Float64Array(256).fill(1);
  for (const byte of train) counts[byte]++;
  const total = train.length + 256;
  let bits = 0;
  for (const byte of validation) bits -= Math.log2(counts[byte] / total);
  return bits / validation.length;
}

/** Counts of pairs, each begun at 0.01; cross-entropy in bits per byte. */
function bigram(train: Uint8Array, validation: Uint8Array): number {
  const pairs = new Float64Array(65_536).fill(0.01), rows = new Float64Array(256).fill(2.56);
  for (let i = 1; i < train.length; i++) {
    pairs[train[i - 1] * 256 + train[i]]++;
    rows[train[i - 1]]++;
  }
  let bits = 0, previous = 10; // a text begins as if after a line feed
  for (const byte of validation) {
    bits -= Math.log2(pairs[previous * 256 + byte] / rows[previous]);
    previous = byte;
  }
  return bits / validation.length;
}
