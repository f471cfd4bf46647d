/**
 * Central finite differences of a float64 re-statement of a forward function: what every backward reference is checked against.
 *
 * @module
 */
import { assertClose } from "./devices.ts";

/** Half the distance between the two points: balances truncation (h^2) and rounding (1e-16 / h). */
const STEP = 1e-5;

/** d loss / d at[i] for every i. `loss` must not keep the array that it is given. */
function numericGradient(loss: (at: Float64Array) => number, at: ArrayLike<number>): Float64Array {
  const point = Float64Array.from(at);
  return point.map((value, i) => {
    point[i] = value + STEP;
    const above = loss(point);
    point[i] = value - STEP;
    const below = loss(point);
    point[i] = value;
    return (above - below) / (2 * STEP);
  });
}

/** Asserts that a gradient in float32 equals the numeric one within 1e-5 of the largest element. */
export function assertGradient(
  actual: ArrayLike<number>,
  loss: (at: Float64Array) => number,
  at: ArrayLike<number>,
  what: string,
): void {
  const expected = numericGradient(loss, at);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assertClose(actual, expected, { absolute: 1e-5 * largest + 1e-9, relative: 0 }, what);
}

/** sum of a[i] * b[i]: turns an output into a scalar loss whose gradient by the output is `b`. */
export function inner(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
