/**
 * What the RMSNorm kernels cost.
 *
 * @module
 */

/** Rows of `width` elements. */
interface Rows {
  readonly rows: number;
  readonly width: number;
}

/** y, and one inverse for each row. */
export function rmsNormCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 4 * rows * width, bytes: 4 * (2 * rows * width + width + rows) };
}

/** dx from x, gain, inverse and dy. */
export function rmsNormBackwardCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 7 * rows * width, bytes: 4 * (3 * rows * width + width + rows) };
}

/** dgain from x, inverse and dy. */
export function rmsNormGainCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 3 * rows * width, bytes: 4 * (2 * rows * width + width + rows) };
}
