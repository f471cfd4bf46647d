/**
 * What rotary position embedding costs.
 *
 * @module
 */

/** In place on the rotated heads; the table is small and stays in cache. */
export function ropeCost(
  { rows, heads, headDim }: { readonly rows: number; readonly heads: number; readonly headDim: number },
): { flops: number; bytes: number } {
  return { flops: 3 * rows * heads * headDim, bytes: 8 * rows * heads * headDim };
}
