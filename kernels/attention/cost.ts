/**
 * What the attention kernels cost. A causal sequence of s tokens has s (s + 1) / 2 pairs of a query and a key.
 *
 * @module
 */

/** Sequences of equal length. */
interface Sequences {
  readonly batch: number;
  readonly seq: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** New rows behind a cache. */
interface Cached {
  readonly rows: number;
  readonly start: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

function pairs({ batch, seq, heads }: Sequences): number {
  return batch * heads * seq * (seq + 1) / 2;
}

function qkvWords({ batch, seq, heads, kvHeads, headDim }: Sequences): number {
  return batch * seq * (heads + 2 * kvHeads) * headDim;
}

/** Two products of headDim a pair, and the softmax. */
export function attentionCost(values: Sequences): { flops: number; bytes: number } {
  const { batch, seq, heads, headDim } = values;
  return {
    flops: pairs(values) * (4 * headDim + 5),
    bytes: 4 * (qkvWords(values) + batch * seq * heads * (headDim + 1)),
  };
}

/** One product for each row and head. */
export function attentionDeltaCost(
  { rows, heads, headDim }: { readonly rows: number; readonly heads: number; readonly headDim: number },
): { flops: number; bytes: number } {
  return { flops: 2 * rows * heads * headDim, bytes: 4 * rows * heads * (2 * headDim + 1) };
}

/** Three products a pair: the score again, the gradient of its probability, and the sum into dq. */
export function attentionBackwardQCost(values: Sequences): { flops: number; bytes: number } {
  const { batch, seq, heads, headDim } = values;
  return {
    flops: pairs(values) * (6 * headDim + 5),
    bytes: 4 * (qkvWords(values) + batch * seq * heads * (2 * headDim + 2)),
  };
}

/** Four products a pair: the score again, the gradient of its probability, and the sums into dk and dv. */
export function attentionBackwardKVCost(values: Sequences): { flops: number; bytes: number } {
  const { batch, seq, heads, kvHeads, headDim } = values;
  return {
    flops: pairs(values) * (8 * headDim + 5),
    bytes: 4 * (qkvWords(values) + batch * seq * (heads * (headDim + 2) + 2 * kvHeads * headDim)),
  };
}

/** A copy. */
export function cacheAppendCost({ rows, kvHeads, headDim }: Cached): { flops: number; bytes: number } {
  return { flops: 0, bytes: 16 * rows * kvHeads * headDim };
}

/** Row i sees start + i + 1 cached rows. */
export function attentionCachedCost(
  { rows, start, heads, kvHeads, headDim }: Cached,
): { flops: number; bytes: number } {
  const seen = rows * start + rows * (rows + 1) / 2;
  return {
    flops: seen * heads * (4 * headDim + 5),
    bytes: 4 * (2 * rows * heads * headDim + 2 * (start + rows) * kvHeads * headDim),
  };
}
