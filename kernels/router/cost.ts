/**
 * Costs of the router's kernels. Plain data: imports nothing.
 *
 * @module
 */

/** Tokens, experts and experts chosen for each token. */
interface RouterShape {
  readonly rows: number;
  readonly experts: number;
  readonly chosen: number;
}

/** Cost of {@linkcode routerTopK}: one comparison for each logit, an exponential and a division for each choice. */
export function routerTopKCost({ rows, experts, chosen }: RouterShape): { flops: number; bytes: number } {
  return { flops: rows * (experts + 3 * chosen), bytes: 4 * rows * (experts + 2 * chosen) };
}

/** Cost of {@linkcode routerStats}: a softmax over all experts and a mean over tokens. */
export function routerStatsCost({ rows, experts, chosen }: RouterShape): { flops: number; bytes: number } {
  return { flops: 6 * rows * experts, bytes: 4 * (rows * (experts + chosen) + 2 * experts + 1) };
}

/** Cost of {@linkcode routerBackward}: a softmax over all experts, two losses' gradients, the choices' Jacobian. */
export function routerBackwardCost({ rows, experts, chosen }: RouterShape): { flops: number; bytes: number } {
  return {
    flops: rows * (10 * experts + 6 * chosen),
    bytes: 4 * (rows * (2 * experts + 3 * chosen) + 2 * experts + 1),
  };
}
