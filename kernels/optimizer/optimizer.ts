/**
 * The end of a step: the size of every tensor's gradient, then AdamW over flat buffers.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import adamwProgram from "./adamw.wgsl" with { type: "text" };
import { adamwCost, foldSquaresCost, sumSquaresCost } from "./cost.ts";
import foldProgram from "./fold_squares.wgsl" with { type: "text" };
import sumProgram from "./sum_squares.wgsl" with { type: "text" };

export { type Segment, SQUARES_CHUNK, type SquareTables, squareTables } from "./square_tables.ts";

/** Lanes of the programs here. */
const LANES = 64;

/** Elements that one workgroup of `adamw` updates. */
const ADAMW_ELEMENTS = 256;

const READ_WORDS = `fn word(at: u32, end: u32) -> f32 {
  if (at >= end) { return 0.0; }
  return g[at];
}
fn quadruple(start: u32, at: u32, length: u32) -> vec4f {
  let first = start + at;
  let end = start + length;
  return vec4f(word(first, end), word(first + 1u, end), word(first + 2u, end), word(first + 3u, end));
}
`;

const READ_FOURS = `fn quadruple(start: u32, at: u32, length: u32) -> vec4f {
  return select(vec4f(), g[(start + min(at, length - 4u)) / 4u], at < length);
}
`;

/**
 * Sums of squares by chunk: `g` f32, `chunks` u32 [C, 2] (first word, length at most 4,096; see {@linkcode squareTables})
 * -> `partials` f32 [C, 64]: the sum of each lane, or -1 where one of its values is not finite.
 */
export const sumSquares = defineKernel({
  name: "sumSquares",
  bindings: { g: "f32 read", chunks: "u32 read", partials: "f32 write" },
  params: { chunks: "u32", aligned: "u32" },
  variants: [
    { name: "words", wgsl: READ_WORDS + sumProgram, grid: ({ chunks }) => chunks },
    {
      name: "fours",
      wgsl: READ_FOURS + sumProgram,
      grid: ({ chunks }) => chunks,
      elements: { g: "vec4f" },
      fits: ({ aligned }) => aligned === 1,
    },
  ],
  cost: sumSquaresCost,
  reference({ g, chunks: table, partials }, { chunks }) {
    const { fround } = Math;
    for (let c = 0; c < chunks; c++) {
      const start = table[2 * c];
      const end = start + table[2 * c + 1];
      for (let lane = 0; lane < LANES; lane++) {
        let [x, y, z, w] = [0, 0, 0, 0];
        let finite = true;
        for (let at = start + 4 * lane; at < end; at += 4 * LANES) {
          const a = g[at];
          const b = at + 1 < end ? g[at + 1] : 0;
          const c = at + 2 < end ? g[at + 2] : 0;
          const d = at + 3 < end ? g[at + 3] : 0;
          if (!Number.isFinite(a + b + c + d)) finite = false;
          x = fround(x + fround(a * a));
          y = fround(y + fround(b * b));
          z = fround(z + fround(c * c));
          w = fround(w + fround(d * d));
        }
        partials[LANES * c + lane] = finite ? fround(fround(x + y) + fround(z + w)) : -1;
      }
    }
  },
});

/** Adds 64 lanes: eights in order, then the eight sums in order. */
function foldLanes(lanes: Float32Array): number {
  const { fround } = Math;
  let all = 0;
  for (let eighth = 0; eighth < LANES; eighth += 8) {
    let sum = lanes[eighth];
    for (let l = 1; l < 8; l++) sum = fround(sum + lanes[eighth + l]);
    all = eighth === 0 ? sum : fround(all + sum);
  }
  return all;
}

/**
 * Folds chunks into segments: `partials` f32 [C, 64], `segments` u32 [S, 2] (first chunk, chunks) -> `totals` f32 [S] and `flags`
 * u32 [S]: 1 where a value is not finite or the sum overflows; the total is then given as 0.
 */
export const foldSquares = defineKernel({
  name: "foldSquares",
  bindings: { partials: "f32 read", segments: "u32 read", totals: "f32 write", flags: "u32 write" },
  params: { segments: "u32" },
  variants: [{
    name: "fours",
    wgsl: foldProgram,
    grid: ({ segments }) => segments,
    elements: { partials: "vec4f" },
  }],
  cost: foldSquaresCost,
  reference({ partials, segments: table, totals, flags }, { segments }) {
    const { fround } = Math;
    const lanes = new Float32Array(LANES);
    for (let s = 0; s < segments; s++) {
      const first = table[2 * s];
      const count = table[2 * s + 1];
      let flag = 0;
      for (let lane = 0; lane < LANES; lane++) {
        let sum = 0;
        for (let start = lane; start < count; start += 8 * LANES) {
          let run = 0;
          for (let c = start; c < Math.min(start + 8 * LANES, count); c += LANES) {
            const chunk = partials.subarray(LANES * (first + c), LANES * (first + c + 1));
            run = fround(run + foldLanes(chunk));
            if (chunk.some((lane) => lane < 0)) flag = 1;
          }
          sum = fround(sum + run);
        }
        lanes[lane] = sum;
      }
      const all = foldLanes(lanes);
      if (!Number.isFinite(all)) flag = 1;
      totals[s] = flag ? 0 : all;
      flags[s] = flag;
    }
  },
});

/**
 * One step of AdamW (Loshchilov and Hutter 2019) over flat buffers of `length` words, in place: weights `w`, gradients `g`
 * (only read), moments `m` and `v`. `scalars` f32 [8] = learning rate, beta1, beta2, epsilon, 1 - beta1^t, 1 - beta2^t,
 * factor of clipping, unused; make them with {@linkcode adamwScalars}. `decay` is decoupled: w -= lr * (update + decay * w).
 */
export const adamw = defineKernel({
  name: "adamw",
  bindings: { w: "f32 write", g: "f32 read", m: "f32 write", v: "f32 write", scalars: "f32 read" },
  params: { length: "u32", decay: "f32" },
  variants: [
    { name: "words", wgsl: SINGLE + adamwProgram, grid: ({ length }) => Math.ceil(length / ADAMW_ELEMENTS) },
    {
      name: "fours",
      wgsl: FOURFOLD + adamwProgram,
      grid: ({ length }) => Math.ceil(length / 4 / ADAMW_ELEMENTS),
      elements: { w: "vec4f", g: "vec4f", m: "vec4f", v: "vec4f" },
      fits: ({ length }) => length % 4 === 0,
    },
  ],
  cost: adamwCost,
  reference({ w, g, m, v, scalars }, { length, decay: decay64 }) {
    const { fround, sqrt } = Math;
    const [rate, beta1, beta2, epsilon, correction1, correction2, clip] = scalars;
    const rest1 = fround(1 - beta1);
    const rest2 = fround(1 - beta2);
    const decay = fround(decay64);
    for (let i = 0; i < length; i++) {
      const gradient = fround(g[i] * clip);
      const first = fround(fround(beta1 * m[i]) + fround(rest1 * gradient));
      const second = fround(fround(beta2 * v[i]) + fround(fround(rest2 * gradient) * gradient));
      m[i] = first;
      v[i] = second;
      const root = fround(sqrt(fround(second / correction2)));
      const update = fround(fround(first / correction1) / fround(root + epsilon));
      w[i] = w[i] - fround(rate * fround(update + fround(decay * w[i])));
    }
  },
});

/** The settings of AdamW, as in a step's decision. */
export interface AdamwSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Number of this step, from 1. */
  readonly step: number;
  /** Factor for gradients: 1, or less where their norm exceeds the limit. */
  readonly clip: number;
}

/** The `scalars` of {@linkcode adamw}; bias corrections in double precision. */
export function adamwScalars(settings: AdamwSettings): Float32Array<ArrayBuffer> {
  const { learningRate, beta1, beta2, epsilon, step, clip } = settings;
  if (!Number.isInteger(step) || step < 1) {
    throw new RangeError(`Cannot make step ${step} of AdamW: steps are counted from 1`);
  }
  return Float32Array.of(learningRate, beta1, beta2, epsilon, 1 - beta1 ** step, 1 - beta2 ** step, clip, 0);
}
