/**
 * Which piece of text each sample of each step reads: a pure function of (seed, step, sample), so that any worker and any
 * resumed run agrees. Every epoch takes all windows once, in an order of its own.
 *
 * The order is a keyed bijection that is computed, not stored: a balanced Feistel network over the next even power of two
 * (Luby and Rackoff 1988), walked until it lands inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
 *
 * @module
 */
import { TextError } from "../errors.ts";
import { randomStream } from "../random.ts";

/** A label that does not count: what cross-entropy (`IGNORED_LABEL` of its kernel) leaves out. */
export const NO_LABEL = 0xffff_ffff;

/** What the order depends on. */
export interface DataOrder {
  readonly seed: number;
  /** Windows of an epoch; see `windowCount`. */
  readonly windows: number;
  /** Samples of a step, over all its microbatches. */
  readonly perStep: number;
}

/** Feistel rounds: four suffice for a pseudorandom permutation; two more because the halves are small. */
const rounds = 6;

/**
 * Windows of `sequence` inputs and their labels in a run of ids: each window holds sequence + 1 ids and shares its last
 * with the next one's first, so that every id but the first is predicted once an epoch.
 *
 * @throws {TextError} if there is not even one.
 */
export function windowCount(tokens: number, sequence: number): number {
  const windows = Math.floor((tokens - 1) / sequence);
  if (windows < 1) {
    throw new TextError(
      `The text has ${tokens} tokens, but one sample needs ${sequence + 1} (a sequence of ${sequence} ` +
        "and the label of its last). Give more text or a shorter sequence.",
    );
  }
  return windows;
}

/** The ids of a window: sequence + 1 of them. */
export function windowAt(tokens: Uint32Array, sequence: number, window: number): Uint32Array {
  const start = window * sequence;
  if (start < 0 || start + sequence + 1 > tokens.length) {
    throw new RangeError(`Window ${window} of ${sequence} ids lies outside ${tokens.length}`);
  }
  return tokens.subarray(start, start + sequence + 1);
}

/**
 * The window of a sample.
 *
 * @param step steps before this one: 0 for a run's first
 * @param sample place in the step's batch, 0 .. perStep - 1
 */
export function sampleWindow(
  order: DataOrder,
  step: number,
  sample: number,
): { epoch: number; window: number } {
  if (sample < 0 || sample >= order.perStep) throw new RangeError(`Sample ${sample} of ${order.perStep}`);
  const position = step * order.perStep + sample;
  const epoch = Math.floor(position / order.windows);
  return { epoch, window: permutation(order.windows, order.seed, epoch)(position % order.windows) };
}

/** A bijection of 0 .. size - 1, made from (seed, epoch). */
export function permutation(size: number, seed: number, epoch: number): (index: number) => number {
  if (!Number.isInteger(size) || size < 1 || size > 2 ** 32) {
    throw new RangeError(`A permutation of ${size} numbers; 1 to 2^32 are possible`);
  }
  const half = Math.max(1, Math.ceil(Math.log2(size) / 2)), mask = 2 ** half - 1;
  const stream = randomStream(seed, "data order", epoch);
  const keys = Array.from({ length: rounds }, () => stream.integer(2 ** 32));
  const once = (index: number): number => {
    let left = Math.floor(index / 2 ** half), right = index % 2 ** half;
    for (const key of keys) [left, right] = [right, (left ^ mix(right, key)) & mask];
    return left * 2 ** half + right;
  };
  return (index) => {
    if (!(index >= 0 && index < size)) throw new RangeError(`Index ${index} of ${size}`);
    // The network permutes at most 4 * size numbers, so that a walk takes few steps on average.
    do index = once(index); while (index >= size);
    return index;
  };
}

/** A round's function: the finaliser of MurmurHash3 (Appleby, public domain) over half and key. */
function mix(half: number, key: number): number {
  let h = Math.imul(half + 1, 0x9e3779b1) ^ key;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
