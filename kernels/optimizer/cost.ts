/**
 * Costs of the optimizer's kernels. Plain data: imports nothing.
 *
 * @module
 */

/** Cost of {@linkcode sumSquares} over `chunks` chunks of at most 4,096 words. */
export function sumSquaresCost({ chunks }: { readonly chunks: number }): { flops: number; bytes: number } {
  return { flops: 2 * 4096 * chunks, bytes: 4 * chunks * (4096 + 64 + 2) };
}

/** Cost of {@linkcode foldSquares} over `segments` tensors (the partial sums are few beside the gradients). */
export function foldSquaresCost(
  { segments }: { readonly segments: number },
): { flops: number; bytes: number } {
  return { flops: 64 * segments, bytes: 4 * 4 * segments };
}

/** Cost of {@linkcode adamw}: reads four words and writes three for each parameter. */
export function adamwCost({ length }: { readonly length: number }): { flops: number; bytes: number } {
  return { flops: 16 * length, bytes: 28 * length };
}
