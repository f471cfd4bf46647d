/**
 * The tables by which two dispatches sum the squares of many tensors that lie in one buffer.
 *
 * @module
 */

/** Words of a chunk. A constant: results must not depend on the device or on where a tensor lies. */
export const SQUARES_CHUNK = 4096;

/** Lanes that share a chunk, each with a sum of its own. */
const LANES = 64;

/** A tensor's place in a flat buffer, in words. */
export interface Segment {
  readonly start: number;
  readonly length: number;
}

/** What {@linkcode sumSquares} and {@linkcode foldSquares} need to know about a flat buffer. */
export interface SquareTables {
  /** For each chunk its first word and its length: the binding `chunks` of `sumSquares`. */
  readonly chunks: Uint32Array<ArrayBuffer>;
  /** For each segment its first chunk and its number of chunks: the binding `segments` of `foldSquares`. */
  readonly segments: Uint32Array<ArrayBuffer>;
  readonly chunkCount: number;
  readonly segmentCount: number;
  /** Words of the buffer `partials` between the two kernels. */
  readonly partialWords: number;
  /** 1 where four divides every start and length, so that words can be read by fours; the parameter `aligned`. */
  readonly aligned: 0 | 1;
}

/**
 * Cuts segments into chunks of {@linkcode SQUARES_CHUNK} words, each segment from its own start. Upload `chunks` and
 * `segments` once; then, for `totals` and `flags` of `segmentCount` words each:
 *
 * ```ts ignore
 * device.run(sumSquares, { g, chunks, partials }, { chunks: tables.chunkCount, aligned: tables.aligned });
 * device.run(foldSquares, { partials, segments, totals, flags }, { segments: tables.segmentCount });
 * ```
 *
 * Throws a RangeError for a start or length that is no whole number of words below 2^32.
 */
export function squareTables(segments: readonly Segment[]): SquareTables {
  const chunks: number[] = [];
  const spans = new Uint32Array(2 * segments.length);
  let aligned: 0 | 1 = 1;
  segments.forEach(({ start, length }, s) => {
    if (
      !Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 ||
      start + length > 2 ** 32
    ) {
      throw new RangeError(
        `Cannot sum squares of words ${start}..${start + length}: not a span of words below 2^32`,
      );
    }
    if (start % 4 !== 0 || length % 4 !== 0) aligned = 0;
    spans[2 * s] = chunks.length / 2;
    for (let at = 0; at < length; at += SQUARES_CHUNK) {
      chunks.push(start + at, Math.min(SQUARES_CHUNK, length - at));
    }
    spans[2 * s + 1] = chunks.length / 2 - spans[2 * s];
  });
  return {
    // One unused pair where there is nothing to sum, since no device binds an empty buffer.
    chunks: Uint32Array.from(chunks.length > 0 ? chunks : [0, 0]),
    segments: spans.length > 0 ? spans : new Uint32Array(2),
    chunkCount: chunks.length / 2,
    segmentCount: segments.length,
    partialWords: Math.max(1, chunks.length / 2) * LANES,
    aligned,
  };
}
