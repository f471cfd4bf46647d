/**
 * What packing costs.
 *
 * @module
 */

/** Reads four bytes and writes two for each element. */
export function packRowsCost(
  { rows, width }: { readonly rows: number; readonly width: number },
): { flops: number; bytes: number } {
  return { flops: 4 * rows * width, bytes: 4 * rows * (width + Math.ceil(width / 2)) };
}
