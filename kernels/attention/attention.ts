/**
 * Causal attention with grouped queries, without a score matrix in memory (online softmax, Milakov and Gimelshein, 2018; the
 * backward pass recomputes scores as in FlashAttention-2, Dao, 2023).
 *
 * qkv is one buffer [T, (H + 2K) * hd] of T = batch * seq rows: H query heads, then K key heads, then K value heads, of hd elements
 * each. Query head h reads kv head floor(h / (H / K)); each sequence is causal on its own; scores are scaled by 1 / sqrt(hd).
 * Heads have at most {@linkcode MAX_HEAD_DIM} elements, H is a multiple of K.
 *
 * @module
 */
import { defineKernel } from "../kernel.ts";
import {
  attentionBackwardKVCost,
  attentionBackwardQCost,
  attentionCachedCost,
  attentionCost,
  attentionDeltaCost,
  cacheAppendCost,
} from "./cost.ts";
import {
  attentionBackwardKVReference,
  attentionBackwardQReference,
  attentionCachedReference,
  attentionDeltaReference,
  attentionReference,
} from "./reference.ts";
import {
  backwardKVTiles,
  backwardQTiles,
  cachedTiles,
  cacheParams,
  forwardTiles,
  sequenceParams,
} from "./variants.ts";
import { FOURFOLD, SINGLE } from "../elements.ts";
import deltaWgsl from "./delta.wgsl" with { type: "text" };
import appendWgsl from "./cache_append.wgsl" with { type: "text" };

export { MAX_HEAD_DIM } from "./variants.ts";

/** out[T, H * hd], and lse[T, H]: logsumexp of each query's scaled scores, for the backward pass. */
export const attention = defineKernel({
  name: "attention",
  bindings: { qkv: "f32 read", out: "f32 write", lse: "f32 write" },
  params: sequenceParams,
  ...forwardTiles,
  cost: attentionCost,
  reference: attentionReference,
});

/** delta[T, H] = sum over a head of out * dout: what every probability's gradient is measured against. */
export const attentionDelta = defineKernel({
  name: "attentionDelta",
  bindings: { out: "f32 read", dout: "f32 read", delta: "f32 write" },
  params: { rows: "u32", heads: "u32", headDim: "u32" },
  variants: [
    { name: "scalar", wgsl: SINGLE + deltaWgsl, grid: ({ rows, heads }) => Math.ceil(rows * heads / 64) },
    {
      name: "wide",
      wgsl: FOURFOLD + deltaWgsl,
      grid: ({ rows, heads }) => Math.ceil(rows * heads / 64),
      elements: { out: "vec4f", dout: "vec4f" },
      fits: ({ headDim }) => headDim % 4 === 0,
    },
  ],
  cost: attentionDeltaCost,
  reference: attentionDeltaReference,
});

const backwardBindings = {
  qkv: "f32 read",
  dout: "f32 read",
  lse: "f32 read",
  delta: "f32 read",
  dqkv: "f32 write",
} as const;

/** Writes the query part of dqkv[T, (H + 2K) * hd]; sums over keys in order. */
export const attentionBackwardQ = defineKernel({
  name: "attentionBackwardQ",
  bindings: backwardBindings,
  params: sequenceParams,
  ...backwardQTiles,
  cost: attentionBackwardQCost,
  reference: attentionBackwardQReference,
});

/** Writes the key and value parts of dqkv; sums over the group's query heads in order, and for each over its queries in order. */
export const attentionBackwardKV = defineKernel({
  name: "attentionBackwardKV",
  bindings: backwardBindings,
  params: sequenceParams,
  ...backwardKVTiles,
  cost: attentionBackwardKVCost,
  reference: attentionBackwardKVReference,
});

/** Copies the key and value parts of qkv's `rows` rows to rows start .. start + rows of keys and values, each [capacity, K * hd]. */
export const cacheAppend = defineKernel({
  name: "cacheAppend",
  bindings: { qkv: "f32 read", keys: "f32 write", values: "f32 write" },
  params: cacheParams,
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + appendWgsl,
      grid: ({ rows, kvHeads, headDim }) => Math.ceil(rows * kvHeads * headDim / 64),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + appendWgsl,
      grid: ({ rows, kvHeads, headDim }) => Math.ceil(rows * kvHeads * headDim / 4 / 64),
      elements: { qkv: "vec4f", keys: "vec4f", values: "vec4f" },
      fits: ({ headDim }) => headDim % 4 === 0,
    },
  ],
  cost: cacheAppendCost,
  reference({ qkv, keys, values }, { rows, start, heads, kvHeads, headDim }) {
    const width = kvHeads * headDim;
    const stride = (heads + 2 * kvHeads) * headDim;
    for (let i = 0; i < rows; i++) {
      const key = i * stride + heads * headDim;
      const to = (start + i) * width;
      for (let c = 0; c < width; c++) {
        keys[to + c] = qkv[key + c];
        values[to + c] = qkv[key + width + c];
      }
    }
  },
});

/**
 * Attention of `rows` new rows over a cache: the query of row i has position start + i and sees cache rows 0 .. start + i, which
 * {@linkcode cacheAppend} has already written (keys rotated before).
 */
export const attentionCached = defineKernel({
  name: "attentionCached",
  bindings: { qkv: "f32 read", keys: "f32 read", values: "f32 read", out: "f32 write" },
  params: cacheParams,
  ...cachedTiles,
  cost: attentionCachedCost,
  reference: attentionCachedReference,
});
