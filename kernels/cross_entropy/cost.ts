/**
 * What the loss costs.
 *
 * @module
 */

/** One pass for the loss, another that writes where the gradient is asked for (`gradient` = 1). */
export function crossEntropyCost(
  { rows, vocab, gradient }: { readonly rows: number; readonly vocab: number; readonly gradient: number },
): { flops: number; bytes: number } {
  return { flops: rows * vocab * (gradient ? 7 : 4), bytes: 4 * rows * (vocab * (gradient ? 2 : 1) + 2) };
}
