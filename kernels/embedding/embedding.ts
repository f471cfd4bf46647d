/**
 * Rows of a table by id, and the gradient of the table, which is sparse: only the rows of ids that occur are touched.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import { embeddingBackwardCost, embeddingCost } from "./cost.ts";
import forwardWgsl from "./embedding.wgsl" with { type: "text" };
import backwardWgsl from "./embedding_backward.wgsl" with { type: "text" };

/** Elements that a lane takes; the forward program says the same. */
const PER_LANE = 4;

/** y[t] = table[ids[t]] for rows of `width`. Ids must lie inside the table: the host checks them. */
export const embedding = defineKernel({
  name: "embedding",
  bindings: { ids: "u32 read", table: "f32 read", y: "f32 write" },
  params: { rows: "u32", width: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + forwardWgsl,
      grid: ({ rows, width }) => Math.ceil(rows * width / (64 * PER_LANE)),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + forwardWgsl,
      grid: ({ rows, width }) => Math.ceil(rows * width / (4 * 64 * PER_LANE)),
      elements: { table: "vec4f", y: "vec4f" },
      fits: ({ width }) => width % 4 === 0,
    },
  ],
  cost: embeddingCost,
  reference({ ids, table, y }, { rows, width }) {
    for (let t = 0; t < rows; t++) {
      const from = ids[t] * width;
      const to = t * width;
      for (let c = 0; c < width; c++) y[to + c] = table[from + c];
    }
  },
});

/** Where each distinct id occurs: what {@linkcode embeddingBackward} reads. */
export interface TokenGroups {
  /** The distinct ids, ascending. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** tokens.length + 1 positions in `order`. */
  readonly starts: Uint32Array<ArrayBuffer>;
  /** Rows, those of the same id together and ascending. */
  readonly order: Uint32Array<ArrayBuffer>;
}

/** Groups the rows of a microbatch by their id. */
export function groupTokens(ids: Uint32Array): TokenGroups {
  // One float64 sort of id * rows + row: both fit 53 bits together, and numeric sorting is fast and stable by construction.
  const rows = ids.length;
  const keys = new Float64Array(rows);
  for (let t = 0; t < rows; t++) keys[t] = ids[t] * rows + t;
  keys.sort();
  const order = new Uint32Array(rows);
  const tokens: number[] = [];
  const starts: number[] = [];
  for (let i = 0; i < rows; i++) {
    const t = keys[i] % rows;
    order[i] = t;
    if (i === 0 || ids[t] !== tokens[tokens.length - 1]) {
      tokens.push(ids[t]);
      starts.push(i);
    }
  }
  starts.push(rows);
  return { tokens: new Uint32Array(tokens), starts: new Uint32Array(starts), order };
}

/** dtable[tokens[u]] += sum over order[starts[u] .. starts[u + 1]], in order, of the rows of dy. Always adds. */
export const embeddingBackward = defineKernel({
  name: "embeddingBackward",
  bindings: {
    tokens: "u32 read",
    starts: "u32 read",
    order: "u32 read",
    dy: "f32 read",
    dtable: "f32 write",
  },
  params: { unique: "u32", width: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + backwardWgsl,
      grid: ({ unique, width }) => Math.ceil(unique * width / 64),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + backwardWgsl,
      grid: ({ unique, width }) => Math.ceil(unique * width / (4 * 64)),
      elements: { dy: "vec4f", dtable: "vec4f" },
      fits: ({ width }) => width % 4 === 0,
    },
  ],
  cost: embeddingBackwardCost,
  reference({ tokens, starts, order, dy, dtable }, { unique, width }) {
    const sums = new Float32Array(width);
    for (let u = 0; u < unique; u++) {
      sums.fill(0);
      for (let i = starts[u]; i < starts[u + 1]; i++) {
        const from = order[i] * width;
        for (let c = 0; c < width; c++) sums[c] += dy[from + c];
      }
      const to = tokens[u] * width;
      for (let c = 0; c < width; c++) dtable[to + c] += sums[c];
    }
  },
});
