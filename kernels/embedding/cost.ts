/**
 * What looking up rows of a table costs.
 *
 * @module
 */

/** A copy of one table row for each id. */
export function embeddingCost(
  { rows, width }: { readonly rows: number; readonly width: number },
): { flops: number; bytes: number } {
  return { flops: 0, bytes: 4 * rows * (2 * width + 1) };
}

/** At least one row of dy for each of the `unique` ids, added to its table row (the call does not know how many more). */
export function embeddingBackwardCost(
  { unique, width }: { readonly unique: number; readonly width: number },
): { flops: number; bytes: number } {
  return { flops: 2 * unique * width, bytes: 12 * unique * width };
}
