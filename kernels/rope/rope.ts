/**
 * Rotary position embedding (Su et al., 2021) in the rotate-half form of Llama: element i of a head turns with element
 * i + headDim / 2.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import { ropeCost } from "./cost.ts";
import wgsl from "./rope.wgsl" with { type: "text" };

/**
 * The table that {@linkcode rope} reads: for each position headDim / 2 cosines, then as many sines, of
 * position * theta^(-2 i / headDim). Computed in float64 because WGSL's sin and cos differ between devices.
 */
export function ropeTable(positions: number, headDim: number, theta: number): Float32Array<ArrayBuffer> {
  if (headDim % 2 !== 0) {
    throw new RangeError(
      `Cannot make a rotation table for heads of ${headDim} elements: it turns pairs, so use an even size`,
    );
  }
  const half = headDim / 2;
  const table = new Float32Array(positions * headDim);
  for (let i = 0; i < half; i++) {
    const frequency = Math.pow(theta, -2 * i / headDim);
    for (let p = 0; p < positions; p++) {
      table[p * headDim + i] = Math.cos(p * frequency);
      table[p * headDim + half + i] = Math.sin(p * frequency);
    }
  }
  return table;
}

/**
 * Turns the first `heads` heads of each row of x[rows, stride] in place. Row t has position start + t % seq; `inverse` = 1
 * turns the other way, which is the backward pass.
 */
export const rope = defineKernel({
  name: "rope",
  bindings: { x: "f32 write", table: "f32 read" },
  params: {
    rows: "u32",
    seq: "u32",
    start: "u32",
    heads: "u32",
    headDim: "u32",
    stride: "u32",
    inverse: "u32",
  },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + wgsl,
      grid: ({ rows, headDim }) => Math.ceil(rows * headDim / 2 / 64),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + wgsl,
      grid: ({ rows, headDim }) => Math.ceil(rows * headDim / 8 / 64),
      elements: { x: "vec4f", table: "vec4f" },
      fits: ({ headDim, stride }) => headDim % 8 === 0 && stride % 4 === 0,
    },
  ],
  cost: ropeCost,
  reference({ x, table }, { rows, seq, start, heads, headDim, stride, inverse }) {
    const half = headDim / 2;
    for (let t = 0; t < rows; t++) {
      const angle = (start + t % seq) * headDim;
      for (let h = 0; h < heads; h++) {
        const head = t * stride + h * headDim;
        for (let i = 0; i < half; i++) {
          const cos = table[angle + i];
          const sin = inverse ? -table[angle + half + i] : table[angle + half + i];
          const a = x[head + i];
          const b = x[head + half + i];
          x[head + i] = a * cos - b * sin;
          x[head + half + i] = b * cos + a * sin;
        }
      }
    }
  },
});
