/**
 * Which attention programs there are: for every head size one tile for GPUs and one for devices that compute on the CPU.
 *
 * @module
 */
import type { Values, Variant } from "../kernel.ts";
import { backwardKVProgram, backwardQProgram, forwardProgram, LANES, type Tile } from "./program.ts";

/** Elements of the largest head that the programs keep in registers. */
export const MAX_HEAD_DIM = 128;

/** Parameters of the kernels that go over whole sequences. */
export const sequenceParams = {
  batch: "u32",
  seq: "u32",
  heads: "u32",
  kvHeads: "u32",
  headDim: "u32",
} as const;

/** Parameters of the kernels that go over a cache. */
export const cacheParams = {
  rows: "u32",
  start: "u32",
  heads: "u32",
  kvHeads: "u32",
  headDim: "u32",
} as const;

type Sequence = typeof sequenceParams;
type Cache = typeof cacheParams;

/** Registers (vectors of four) that a tile may fill on a CPU: beyond, spilling costs more than loading again. */
const CPU_VECTORS = 192;
/** The same for a GPU lane, where a smaller tile leaves more lanes to hide latency with. */
const GPU_VECTORS = 64;

/** Rows of a tile that keeps `perRow` heads for each row: a power of two, at most 8. */
function rowsFor(headDim: number, perRow: number, vectors: number): number {
  const fit = vectors / (perRow * Math.ceil(headDim / 4));
  return fit >= 8 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

/** The two tiles of every head size; programs are written only when a device asks for them. */
function tiles<P extends Sequence | Cache>(
  perRow: number,
  write: (tile: Tile) => string,
  lanes: (values: Values<P>, rows: number) => number,
  bindings: Readonly<Record<string, "vec4f">>,
): Variant<P>[] {
  const variants: Variant<P>[] = [];
  for (let headDim = 1; headDim <= MAX_HEAD_DIM; headDim++) {
    for (const neighbours of ["places", "heads"] as const) {
      const rows = rowsFor(headDim, perRow, neighbours === "heads" ? CPU_VECTORS : GPU_VECTORS);
      const tile: Tile = { headDim, rows, block: 2, neighbours };
      variants.push({
        name: `head ${headDim}, ${rows} rows, neighbours ${neighbours}`,
        get wgsl() {
          return write(tile);
        },
        grid: (values) => Math.ceil(lanes(values, rows) / LANES),
        elements: headDim % 4 === 0 ? bindings : {},
        fits: (values) => (values as { readonly headDim: number }).headDim === headDim,
      });
    }
  }
  return variants;
}

const queryLanes = ({ batch, seq, heads, kvHeads }: Values<Sequence>, rows: number) =>
  batch * kvHeads * Math.ceil(seq * heads / kvHeads / rows);

/** Variants of `attention`. */
export function forwardVariants(): Variant<Sequence>[] {
  return tiles<Sequence>(2, (tile) => forwardProgram(tile, "sequence"), queryLanes, {
    qkv: "vec4f",
    out: "vec4f",
  });
}

/** Variants of `attentionCached`. */
export function cachedVariants(): Variant<Cache>[] {
  return tiles<Cache>(
    2,
    (tile) => forwardProgram(tile, "cache"),
    ({ rows, heads, kvHeads }, tileRows) => kvHeads * Math.ceil(rows * heads / kvHeads / tileRows),
    { qkv: "vec4f", keys: "vec4f", values: "vec4f", out: "vec4f" },
  );
}

/** Variants of `attentionBackwardQ`. */
export function backwardQVariants(): Variant<Sequence>[] {
  return tiles<Sequence>(3, backwardQProgram, queryLanes, { qkv: "vec4f", dout: "vec4f", dqkv: "vec4f" });
}

/** Variants of `attentionBackwardKV`. */
export function backwardKVVariants(): Variant<Sequence>[] {
  return tiles<Sequence>(
    4,
    backwardKVProgram,
    ({ batch, seq, kvHeads }, rows) => batch * kvHeads * Math.ceil(seq / rows),
    { qkv: "vec4f", dout: "vec4f", dqkv: "vec4f" },
  );
}
