/**
 * What sums of vectors cost.
 *
 * @module
 */

/** y += x. */
export function addCost({ length }: { readonly length: number }): { flops: number; bytes: number } {
  return { flops: length, bytes: 12 * length };
}

/** One sum for each column. */
export function columnSumCost(
  { rows, width }: { readonly rows: number; readonly width: number },
): { flops: number; bytes: number } {
  return { flops: rows * width, bytes: 4 * (rows + 1) * width };
}
