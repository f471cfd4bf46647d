/**
 * What the gated activation costs; `rows` is the upper bound that the call states.
 *
 * @module
 */

/** Rows of `width` gates and `width` ups. */
interface Rows {
  readonly rows: number;
  readonly width: number;
}

/** y from gate and up; an exponential counts as one operation. */
export function swigluCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 5 * rows * width, bytes: 12 * rows * width };
}

/** Both gradients from gate, up and dy. */
export function swigluBackwardCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 11 * rows * width, bytes: 20 * rows * width };
}

/** y packed as bf16. */
export function swigluPackedCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 9 * rows * width, bytes: 10 * rows * width };
}

/** Both gradients packed as bf16. */
export function swigluBackwardPackedCost({ rows, width }: Rows): { flops: number; bytes: number } {
  return { flops: 19 * rows * width, bytes: 16 * rows * width };
}
