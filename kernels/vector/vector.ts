/**
 * Sums of vectors: one added to another, and the rows of a matrix.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import { addCost, columnSumCost } from "./cost.ts";
import addWgsl from "./add.wgsl" with { type: "text" };
import columnSumWgsl from "./column_sum.wgsl" with { type: "text" };

/** Elements that one workgroup of `add` takes: 64 lanes, four elements each. */
const ADD_SPAN = 64 * 4;

/** y += x over `length` elements. */
export const add = defineKernel({
  name: "add",
  bindings: { x: "f32 read", y: "f32 write" },
  params: { length: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + addWgsl,
      grid: ({ length }) => Math.ceil(length / ADD_SPAN),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + addWgsl,
      grid: ({ length }) => Math.ceil(length / (4 * ADD_SPAN)),
      elements: { x: "vec4f", y: "vec4f" },
      fits: ({ length }) => length % 4 === 0,
    },
  ],
  cost: addCost,
  reference({ x, y }, { length }) {
    for (let i = 0; i < length; i++) y[i] += x[i];
  },
});

/**
 * y[c] = sum over the rows r, in order, of x[r * stride + start + c], for c < width: the gradient of a bias. `stride` and
 * `start` pick columns of a wider matrix. The sum starts at zero; with `accumulate` it is added to y at the end.
 */
export const columnSum = defineKernel({
  name: "columnSum",
  bindings: { x: "f32 read", y: "f32 write" },
  params: { rows: "u32", width: "u32", stride: "u32", start: "u32", accumulate: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + columnSumWgsl,
      grid: ({ width }) => Math.ceil(width / 32),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + columnSumWgsl,
      grid: ({ width }) => Math.ceil(width / (4 * 32)),
      elements: { x: "vec4f", y: "vec4f" },
      fits: ({ width, stride, start }) => width % 4 === 0 && stride % 4 === 0 && start % 4 === 0,
    },
  ],
  cost: columnSumCost,
  reference({ x, y }, { rows, width, stride, start, accumulate }) {
    const sums = new Float32Array(width);
    for (let r = 0; r < rows; r++) {
      const row = r * stride + start;
      for (let c = 0; c < width; c++) sums[c] += x[row + c];
    }
    for (let c = 0; c < width; c++) y[c] = accumulate ? y[c] + sums[c] : sums[c];
  },
});
