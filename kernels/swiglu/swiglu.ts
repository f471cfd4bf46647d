/**
 * The gated activation of Llama's MLP (Shazeer, 2020): y = silu(gate) * up with silu(g) = g / (1 + exp(-g)). Gate and up lie
 * side by side in gu[rows, 2 width].
 *
 * Both kernels touch only the rows offsets[first] .. offsets[first + groups], so that they serve the grouped rows of experts;
 * a dense layer passes offsets [0, rows], first 0, groups 1. `rows` bounds their number.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel, type Variant } from "../kernel.ts";
import { swigluBackwardCost, swigluCost } from "./cost.ts";
import forwardWgsl from "./swiglu.wgsl" with { type: "text" };
import backwardWgsl from "./swiglu_backward.wgsl" with { type: "text" };

const params = { rows: "u32", width: "u32", first: "u32", groups: "u32" } as const;

/** Rows that a workgroup takes; the programs say the same. */
const TILE_ROWS = 8;

function variants(wgsl: string, wide: Record<string, "vec4f">): Variant<typeof params>[] {
  const grid = ({ rows }: { readonly rows: number }) => Math.ceil(rows / TILE_ROWS);
  return [
    { name: "scalar", wgsl: SINGLE + wgsl, grid },
    {
      name: "wide",
      wgsl: FOURFOLD + wgsl,
      grid,
      elements: wide,
      fits: ({ width }) => width % 4 === 0,
    },
  ];
}

/** y[rows, width] = silu(gate) * up. */
export const swiglu = defineKernel({
  name: "swiglu",
  bindings: { gu: "f32 read", offsets: "u32 read", y: "f32 write" },
  params,
  variants: variants(forwardWgsl, { gu: "vec4f", y: "vec4f" }),
  cost: swigluCost,
  reference({ gu, offsets, y }, { width, first, groups }) {
    const end = offsets[first + groups];
    for (let r = offsets[first]; r < end; r++) {
      const from = r * 2 * width;
      const to = r * width;
      for (let c = 0; c < width; c++) {
        const gate = gu[from + c];
        y[to + c] = gate / (1 + Math.exp(-gate)) * gu[from + width + c];
      }
    }
  },
});

/** dgu from gu and dy: d silu(g) / dg = s (1 + g (1 - s)) with s = 1 / (1 + exp(-g)). */
export const swigluBackward = defineKernel({
  name: "swigluBackward",
  bindings: { gu: "f32 read", dy: "f32 read", offsets: "u32 read", dgu: "f32 write" },
  params,
  variants: variants(backwardWgsl, { gu: "vec4f", dy: "vec4f", dgu: "vec4f" }),
  cost: swigluBackwardCost,
  reference({ gu, dy, offsets, dgu }, { width, first, groups }) {
    const end = offsets[first + groups];
    for (let r = offsets[first]; r < end; r++) {
      const wide = r * 2 * width;
      const narrow = r * width;
      for (let c = 0; c < width; c++) {
        const gate = gu[wide + c];
        const d = dy[narrow + c];
        const s = 1 / (1 + Math.exp(-gate));
        dgu[wide + c] = d * gu[wide + width + c] * s * (1 + gate * (1 - s));
        dgu[wide + width + c] = d * gate * s;
      }
    }
  },
});
