/**
 * Chance that can be called up again: every number is a pure function of a seed, some keys and its place in the stream, so
 * that it does not matter which worker draws it, or when.
 *
 * The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011):
 * ten rounds of multiplication and exclusive or turn a counter of 128 bits and a key of 64 bits into 128 bits.
 *
 * @module
 */

/** Four words of 32 bits, unsigned. */
export type Block = readonly [number, number, number, number];

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** The upper half of the 64-bit product of two unsigned words. */
function multiplyHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  // No partial sum exceeds 2^32 - 1, so all of it is exact.
  const middle = aLow * bHigh + ((aLow * bLow) >>> 16);
  const other = aHigh * bLow + (middle & 0xffff);
  return aHigh * bHigh + (middle >>> 16) + (other >>> 16);
}

/** Philox4x32 with ten rounds: 128 bits for a counter of 128 bits and a key of 64. All words unsigned. */
export function philox(counter: Block, key0: number, key1: number): Block {
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const next1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    const next3 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c1 = next1;
    c3 = next3;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Numbers from one stream, in order. Two streams of the same seed and keys give the same numbers. */
export interface RandomStream {
  /** Uniform in [0, 1), a multiple of 2^-53. */
  uniform(): number;
  /** Normal with mean 0 and variance 1. */
  normal(): number;
  /** Uniform among 0..n - 1; n is an integer in 1..2^32, otherwise a RangeError is thrown. */
  integer(n: number): number;
}

const encoder = new TextEncoder();
/** Two words for a number (its bits as a double), or for each eight bytes of a text. */
function wordsOf(key: number | string): Uint32Array {
  if (typeof key === "number") {
    if (!Number.isFinite(key)) {
      throw new RangeError(`Cannot draw at random for the key ${key}: it must be finite`);
    }
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, key === 0 ? 0 : key, true);
    return Uint32Array.of(view.getUint32(0, true), view.getUint32(4, true));
  }
  const bytes = encoder.encode(key);
  const padded = new DataView(new ArrayBuffer(8 * Math.ceil(bytes.length / 8)));
  bytes.forEach((byte, i) => padded.setUint8(i, byte));
  return Uint32Array.from({ length: padded.byteLength / 4 }, (_, i) => padded.getUint32(4 * i, true));
}

/**
 * The stream of a seed and keys (step, sample, layer, a name ...). Numbers and texts are different keys, and so are the same
 * keys in another order.
 *
 * ```ts
 * const stream = randomStream(7, "init", "model.embed_tokens.weight");
 * const weight = 0.02 * stream.normal();
 * ```
 */
export function randomStream(seed: number, ...keys: readonly (number | string)[]): RandomStream {
  // A chain of blocks: each key's words, its kind and its size enter the next block's counter.
  let state: Block = [0, 0, 0, 0];
  for (const key of [seed, ...keys]) {
    const words = wordsOf(key);
    const kind = typeof key === "number" ? 0x80000000 : encoder.encode(key).length;
    state = philox(state, kind, 0x766f6c61);
    for (let i = 0; i < words.length; i += 2) {
      const [a, b, c, d] = state;
      state = philox([a, b, (c ^ words[i]) >>> 0, (d ^ words[i + 1]) >>> 0], words[i], words[i + 1]);
    }
  }
  const [key0, key1, high0, high1] = state;
  let block: Block = [0, 0, 0, 0];
  let used = 4;
  let count = 0;
  const word = (): number => {
    if (used === 4) {
      block = philox([count >>> 0, Math.floor(count / 2 ** 32), high0, high1], key0, key1);
      count++;
      used = 0;
    }
    return block[used++];
  };
  const uniform = (): number => ((word() >>> 5) * 2 ** 26 + (word() >>> 6)) / 2 ** 53;
  let spare: number | undefined;
  return {
    uniform,
    normal() {
      if (spare !== undefined) {
        const value = spare;
        spare = undefined;
        return value;
      }
      // Box and Muller (1958); 1 - uniform lies in (0, 1], so that the logarithm is finite.
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    },
    integer(n) {
      if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
        throw new RangeError(`Cannot draw one of ${n} numbers: the count must be an integer in 1..2^32`);
      }
      // The remainder of 2^32 / n would favour small numbers: draw again.
      const limit = 2 ** 32 - 2 ** 32 % n;
      let value = word();
      while (value >= limit) value = word();
      return value % n;
    },
  };
}
