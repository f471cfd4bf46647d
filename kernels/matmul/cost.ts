/**
 * What matrix products cost. Plain functions without imports, for planners that hold no device. `factor` is the number of
 * bytes of an element of a or b: 4, or 2 where they are packed bf16.
 *
 * @module
 */

/** Operations and least bytes of one product [m,k] x [k,n] whose result is written once. */
export function matmulCost(
  m: number,
  n: number,
  k: number,
  accumulate: number,
  factor = 4,
): { flops: number; bytes: number } {
  return {
    flops: 2 * m * n * k,
    bytes: factor * (m * k + n * k) + 4 * m * n * (accumulate === 0 ? 1 : 2),
  };
}

/** The same with a bias of n words. */
export function matmulBiasCost(
  m: number,
  n: number,
  k: number,
  factor = 4,
): { flops: number; bytes: number } {
  return { flops: 2 * m * n * k + m * n, bytes: factor * (m * k + n * k) + 4 * (m * n + n) };
}

/** The same with a residual of the result's size. */
export function matmulAddCost(
  m: number,
  n: number,
  k: number,
  factor = 4,
): { flops: number; bytes: number } {
  return { flops: 2 * m * n * k + m * n, bytes: factor * (m * k + n * k) + 8 * m * n };
}

/** Products of `rows` rows, each with the matrix [k,n] of its group. */
export function groupedCost(
  rows: number,
  n: number,
  k: number,
  groups: number,
  factor = 4,
): { flops: number; bytes: number } {
  return { flops: 2 * rows * n * k, bytes: factor * (rows * k + groups * n * k) + 4 * rows * n };
}

/** For each group the product [m, its rows] x [its rows, n]. */
export function groupedGradientCost(
  rows: number,
  m: number,
  n: number,
  groups: number,
  accumulate: number,
  factor = 4,
): { flops: number; bytes: number } {
  return {
    flops: 2 * rows * m * n,
    bytes: factor * rows * (m + n) + 4 * groups * m * n * (accumulate === 0 ? 1 : 2),
  };
}
