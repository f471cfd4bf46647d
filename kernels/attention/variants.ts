/**
 * Which attention programs there are: for every head size a tile for GPUs, and two for devices that
 * compute on the CPU.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import type { Params, Values, Variant } from "../kernel.ts";
import { backwardKVProgram, backwardQProgram, forwardProgram } from "./program.ts";
import { LANES, type Tile } from "./tile.ts";

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

/** Vectors of four that a tile may keep on a CPU: with more, spilling and compiling cost more than loading again. */
const CPU_VECTORS = 256;
/** The same where a call has fewer than {@linkcode WORTH} products of queries and keys to make. */
const CPU_VECTORS_SMALL = 128;

/**
 * Products (by elements) below which a backward call is done with half of the rows on a CPU: that takes a quarter longer, and
 * a third to a half of a second less to compile.
 */
const WORTH = 2 ** 23;

/** The same for a GPU lane, where a smaller tile leaves more lanes to hide latency with. */
const GPU_VECTORS = 64;

/** Rows of a tile that keeps `perRow` heads for each row: a power of two, at most 16. */
function rowsFor(headDim: number, perRow: number, vectors: number): number {
  const words = Math.ceil(headDim / 4);
  // Heads that four does not divide are loaded word by word, which makes programs four times as long: keep theirs small.
  const fit = Math.min(vectors, headDim % 4 === 0 ? Infinity : GPU_VECTORS) / (perRow * words);
  return fit >= 16 ? 16 : fit >= 8 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

/** What a kernel takes of this file. */
interface Tiles<P extends Params> {
  readonly variants: readonly Variant<P>[];
  readonly prefer: (values: Values<P>, device: DeviceInfo) => string;
}

/** The tiles of a head size: for GPUs, and for devices that compute on the CPU where calls are small or large. */
function tilesFor(headDim: number, perRow: number): { gpu: Tile; small: Tile; large: Tile } {
  const tile = (neighbours: Tile["neighbours"], vectors: number) => ({
    headDim,
    rows: rowsFor(headDim, perRow, vectors),
    block: 1,
    neighbours,
  });
  return {
    gpu: tile("places", GPU_VECTORS),
    small: tile("heads", CPU_VECTORS_SMALL),
    large: tile("heads", CPU_VECTORS),
  };
}

function nameOf({ headDim, rows, neighbours }: Tile): string {
  return `head ${headDim}, ${rows} rows, neighbours ${neighbours}`;
}

/** The tiles of every head size; programs are written only when a device asks for them. */
function tiles<P extends Sequence | Cache>(
  perRow: number,
  write: (tile: Tile) => string,
  /** How many tiles of so many rows a call has. */
  count: (values: Values<P>, rows: number) => number,
  bindings: Readonly<Record<string, "vec4f">>,
  /** Rows of the largest tile that is worth filling. */
  fill: (values: Values<P>) => number,
  /** Whether a call is large enough for what the large tile takes to compile. */
  large: (values: Values<P>) => boolean,
): Tiles<P> {
  const variants: Variant<P>[] = [];
  for (let headDim = 1; headDim <= MAX_HEAD_DIM; headDim++) {
    const named = new Map(Object.values(tilesFor(headDim, perRow)).map((tile) => [nameOf(tile), tile]));
    for (const [name, tile] of named) {
      variants.push({
        name,
        get wgsl() {
          return write(tile);
        },
        grid: (values) => Math.ceil(count(values, tile.rows) / LANES),
        elements: headDim % 4 === 0 ? bindings : {},
        fits: (values) => (values as { readonly headDim: number }).headDim === headDim,
      });
    }
  }
  return {
    variants,
    prefer(values, { software }) {
      const tiles = tilesFor((values as { readonly headDim: number }).headDim, perRow);
      if (!software || fill(values) <= tiles.gpu.rows) return nameOf(tiles.gpu);
      return nameOf(large(values) ? tiles.large : tiles.small);
    },
  };
}

const queryTiles = ({ batch, seq, heads, kvHeads }: Values<Sequence>, rows: number) =>
  batch * kvHeads * Math.ceil(seq * heads / kvHeads / rows);
const queriesOfGroup = ({ seq, heads, kvHeads }: Values<Sequence>) => seq * heads / kvHeads;

const worthCompiling = ({ batch, seq, heads, headDim }: Values<Sequence>) =>
  batch * heads * seq * seq * headDim >= WORTH;

/** Of `attention`. */
export const forwardTiles = tiles<Sequence>(
  3,
  (tile) => forwardProgram(tile, "sequence"),
  queryTiles,
  { qkv: "vec4f", out: "vec4f" },
  queriesOfGroup,
  () => true,
);

/** Of `attentionCached`. */
export const cachedTiles = tiles<Cache>(
  3,
  (tile) => forwardProgram(tile, "cache"),
  ({ rows, heads, kvHeads }, tileRows) => kvHeads * Math.ceil(rows * heads / kvHeads / tileRows),
  { qkv: "vec4f", keys: "vec4f", values: "vec4f", out: "vec4f" },
  ({ rows, heads, kvHeads }) => rows * heads / kvHeads,
  () => true,
);

/** Of `attentionBackwardQ`. */
export const backwardQTiles = tiles<Sequence>(
  3,
  backwardQProgram,
  queryTiles,
  { qkv: "vec4f", dout: "vec4f", dqkv: "vec4f" },
  queriesOfGroup,
  worthCompiling,
);

/** Of `attentionBackwardKV`. */
export const backwardKVTiles = tiles<Sequence>(
  4,
  backwardKVProgram,
  ({ batch, seq, kvHeads }, rows) => batch * kvHeads * Math.ceil(seq / rows),
  { qkv: "vec4f", dout: "vec4f", dqkv: "vec4f" },
  ({ seq }) => seq,
  worthCompiling,
);
