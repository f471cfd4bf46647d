import { rmsNorm, rmsNormBackward, rmsNormGain } from "../../kernels/mod.ts";
import { compareVariants, noise, reference, runKernel } from "./devices.ts";
import { assertGradient, inner } from "./finite_difference.ts";

const TOLERANCE = { absolute: 2e-6, relative: 4e-6 };
const SHAPES = [[1, 1], [1, 7], [5, 4], [31, 13], [67, 128], [300, 96], [33, 260]];
const EPS = 1e-5;

/** y = x / sqrt(mean(x^2) + eps) * gain in float64. */
function normalised(
  x: ArrayLike<number>,
  gain: ArrayLike<number>,
  rows: number,
  width: number,
): Float64Array {
  const y = new Float64Array(rows * width);
  for (let r = 0; r < rows; r++) {
    let squares = 0;
    for (let c = 0; c < width; c++) squares += x[r * width + c] ** 2;
    const factor = 1 / Math.sqrt(squares / width + EPS);
    for (let c = 0; c < width; c++) y[r * width + c] = x[r * width + c] * factor * gain[c];
  }
  return y;
}

Deno.test("rmsNorm and its backward kernels equal their references", async () => {
  for (const [rows, width] of SHAPES) {
    const x = noise(rows * width, 1);
    const gain = noise(width, 2);
    const dy = noise(rows * width, 3);
    const empty = new Float32Array(rows * width);
    const forward = { x, gain, y: empty, inverse: new Float32Array(rows) };
    await compareVariants(rmsNorm, forward, { rows, width, eps: EPS }, TOLERANCE);
    const inverse = (await runKernel(reference, rmsNorm, forward, { rows, width, eps: EPS })).inverse;
    for (const accumulate of [0, 1]) {
      const values = { rows, width, accumulate };
      const dx = noise(rows * width, 4);
      // Where a row has one element, its gradient is a difference of equals: errors are relative to 1 / |x|.
      const largest = Math.max(1, ...inverse);
      const tolerance = { absolute: 2e-6 * largest, relative: 4e-6 };
      await compareVariants(rmsNormBackward, { x, gain, inverse, dy, dx }, values, tolerance);
      await compareVariants(rmsNormGain, { x, inverse, dy, dgain: noise(width, 5) }, values, {
        absolute: 1e-5,
        relative: 1e-5,
      });
    }
  }
});

Deno.test("the backward references of rmsNorm are the derivatives", async () => {
  for (const [rows, width] of [[1, 2], [3, 7], [2, 16]]) {
    const x = noise(rows * width, 1);
    const gain = noise(width, 2);
    const dy = noise(rows * width, 3);
    const empty = new Float32Array(rows * width);
    const forward = { x, gain, y: empty, inverse: new Float32Array(rows) };
    const { inverse } = await runKernel(reference, rmsNorm, forward, { rows, width, eps: EPS });
    const values = { rows, width, accumulate: 0 };
    const { dx } = await runKernel(reference, rmsNormBackward, { x, gain, inverse, dy, dx: empty }, values);
    assertGradient(dx, (at) => inner(normalised(at, gain, rows, width), dy), x, "dx");
    const dgain = new Float32Array(width);
    const written = await runKernel(reference, rmsNormGain, { x, inverse, dy, dgain }, values);
    assertGradient(written.dgain, (at) => inner(normalised(x, at, rows, width), dy), gain, "dgain");
  }
});
