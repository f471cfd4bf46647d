/**
 * What matrix products cost. Plain functions without imports, for planners that hold no device.
 *
 * @module
 */

/** Operations and least bytes of one product [m,k] x [k,n] whose result is written once. */
export function matmulCost(
  m: number,
  n: number,
  k: number,
  accumulate: number,
): { flops: number; bytes: number } {
  return { flops: 2 * m * n * k, bytes: 4 * (m * k + n * k + m * n * (accumulate === 0 ? 1 : 2)) };
}

/** The same with a bias of n words. */
export function matmulBiasCost(m: number, n: number, k: number): { flops: number; bytes: number } {
  return { flops: 2 * m * n * k + m * n, bytes: 4 * (m * k + n * k + m * n + n) };
}

/** The same with a residual of the result's size. */
export function matmulAddCost(m: number, n: number, k: number): { flops: number; bytes: number } {
  return { flops: 2 * m * n * k + m * n, bytes: 4 * (m * k + n * k + 2 * m * n) };
}

/** Products of `rows` rows, each with the matrix [k,n] of its group. */
export function groupedCost(
  rows: number,
  n: number,
  k: number,
  groups: number,
): { flops: number; bytes: number } {
  return { flops: 2 * rows * n * k, bytes: 4 * (rows * k + groups * n * k + rows * n) };
}

/** For each group the product [m, its rows] x [its rows, n]. */
export function groupedGradientCost(
  rows: number,
  m: number,
  n: number,
  groups: number,
  accumulate: number,
): { flops: number; bytes: number } {
  return {
    flops: 2 * rows * m * n,
    bytes: 4 * (rows * (m + n) + groups * m * n * (accumulate === 0 ? 1 : 2)),
  };
}
