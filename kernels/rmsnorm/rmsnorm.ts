/**
 * Root-mean-square normalisation (Zhang and Sennrich, 2019) of rows, with a gain: y = x * inverse * gain where
 * inverse = 1 / sqrt(mean(x^2) + eps).
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import { rmsNormBackwardCost, rmsNormCost, rmsNormGainCost } from "./cost.ts";
import forwardWgsl from "./rmsnorm.wgsl" with { type: "text" };
import backwardWgsl from "./rmsnorm_backward.wgsl" with { type: "text" };
import gainWgsl from "./rmsnorm_gain.wgsl" with { type: "text" };

/** Lanes of a workgroup, each of which has a row (or, for the gain, a column). */
const LANES_PER_GROUP = 32;

const byRow = ({ rows }: { readonly rows: number }) => Math.ceil(rows / LANES_PER_GROUP);
const wideFits = ({ width }: { readonly width: number }) => width % 4 === 0;

/** x[rows, width] normalised and scaled into y; `inverse` keeps each row's factor for the backward pass. */
export const rmsNorm = defineKernel({
  name: "rmsNorm",
  bindings: { x: "f32 read", gain: "f32 read", y: "f32 write", inverse: "f32 write" },
  params: { rows: "u32", width: "u32", eps: "f32" },
  variants: [
    { name: "scalar", wgsl: SINGLE + forwardWgsl, grid: byRow },
    {
      name: "wide",
      wgsl: FOURFOLD + forwardWgsl,
      grid: byRow,
      elements: { x: "vec4f", gain: "vec4f", y: "vec4f" },
      fits: wideFits,
    },
  ],
  cost: rmsNormCost,
  reference({ x, gain, y, inverse }, { rows, width, eps }) {
    for (let r = 0; r < rows; r++) {
      const row = r * width;
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x[row + c] * x[row + c];
      const factor = Math.fround(1 / Math.sqrt(sum / width + eps));
      inverse[r] = factor;
      for (let c = 0; c < width; c++) y[row + c] = x[row + c] * factor * gain[c];
    }
  },
});

/**
 * dx = inverse * gain * dy - x * inverse^3 / width * sum(x * gain * dy) for each row, added to dx with `accumulate`.
 */
export const rmsNormBackward = defineKernel({
  name: "rmsNormBackward",
  bindings: { x: "f32 read", gain: "f32 read", inverse: "f32 read", dy: "f32 read", dx: "f32 write" },
  params: { rows: "u32", width: "u32", accumulate: "u32" },
  variants: [
    { name: "scalar", wgsl: SINGLE + backwardWgsl, grid: byRow },
    {
      name: "wide",
      wgsl: FOURFOLD + backwardWgsl,
      grid: byRow,
      elements: { x: "vec4f", gain: "vec4f", dy: "vec4f", dx: "vec4f" },
      fits: wideFits,
    },
  ],
  cost: rmsNormBackwardCost,
  reference({ x, gain, inverse, dy, dx }, { rows, width, accumulate }) {
    for (let r = 0; r < rows; r++) {
      const row = r * width;
      const factor = inverse[r];
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x[row + c] * gain[c] * dy[row + c];
      const back = sum * factor * factor * factor / width;
      if (accumulate) {
        for (let c = 0; c < width; c++) dx[row + c] += factor * gain[c] * dy[row + c] - x[row + c] * back;
      } else {
        for (let c = 0; c < width; c++) dx[row + c] = factor * gain[c] * dy[row + c] - x[row + c] * back;
      }
    }
  },
});

/** dgain[c] = sum over the rows, in order, of dy * x * inverse; added to dgain with `accumulate`. */
export const rmsNormGain = defineKernel({
  name: "rmsNormGain",
  bindings: { x: "f32 read", inverse: "f32 read", dy: "f32 read", dgain: "f32 write" },
  params: { rows: "u32", width: "u32", accumulate: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + gainWgsl,
      grid: ({ width }) => Math.ceil(width / LANES_PER_GROUP),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + gainWgsl,
      grid: ({ width }) => Math.ceil(width / (4 * LANES_PER_GROUP)),
      elements: { x: "vec4f", dy: "vec4f", dgain: "vec4f" },
      fits: wideFits,
    },
  ],
  cost: rmsNormGainCost,
  reference({ x, inverse, dy, dgain }, { rows, width, accumulate }) {
    const sums = new Float32Array(width);
    for (let r = 0; r < rows; r++) {
      const row = r * width;
      const factor = inverse[r];
      for (let c = 0; c < width; c++) sums[c] += dy[row + c] * x[row + c] * factor;
    }
    for (let c = 0; c < width; c++) dgain[c] = accumulate ? dgain[c] + sums[c] : sums[c];
  },
});
