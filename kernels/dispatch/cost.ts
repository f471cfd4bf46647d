/**
 * Costs of the kernels that bring tokens to experts and back. Plain data: imports nothing.
 *
 * @module
 */

/** Tokens, words of a row, and experts chosen for each token. */
interface RowShape {
  readonly rows: number;
  readonly width: number;
  readonly chosen: number;
}

/** Assignments (tokens times choices) and experts. */
interface PlaceShape {
  readonly assignments: number;
  readonly experts: number;
}

/** Cost of {@linkcode dispatchCount}. */
export function dispatchCountCost({ assignments, experts }: PlaceShape): { flops: number; bytes: number } {
  return { flops: assignments, bytes: 4 * (assignments + 2 * experts) };
}

/** Cost of {@linkcode dispatchPlace}. */
export function dispatchPlaceCost({ assignments, experts }: PlaceShape): { flops: number; bytes: number } {
  return { flops: 2 * assignments, bytes: 4 * (3 * assignments + 3 * experts + 1) };
}

/** Cost of {@linkcode gatherRows}: each token's row is read once and written k times. */
export function gatherRowsCost({ rows, width, chosen }: RowShape): { flops: number; bytes: number } {
  return { flops: 0, bytes: 4 * rows * (width * (1 + chosen) + chosen) };
}

/** Cost of {@linkcode gatherRowsPacked}. */
export function gatherRowsPackedCost({ rows, width, chosen }: RowShape): { flops: number; bytes: number } {
  return { flops: 0, bytes: 4 * rows * (Math.ceil(width / 2) * (1 + chosen) + chosen) };
}

/** Cost of {@linkcode combine}. */
export function combineCost({ rows, width, chosen }: RowShape): { flops: number; bytes: number } {
  return { flops: rows * width * (2 * chosen + 1), bytes: 4 * rows * (width * (2 + chosen) + 2 * chosen) };
}

/** Cost of {@linkcode combineBackward}. */
export function combineBackwardCost({ rows, width, chosen }: RowShape): { flops: number; bytes: number } {
  return { flops: 3 * rows * width * chosen, bytes: 4 * rows * (width * (1 + 2 * chosen) + 3 * chosen) };
}

/** Cost of {@linkcode sumRows}. */
export function sumRowsCost({ rows, width, chosen }: RowShape): { flops: number; bytes: number } {
  return { flops: rows * width * chosen, bytes: 4 * rows * (width * (1 + chosen) + chosen) };
}
