/**
 * How large everything is that crosses a link, from the plan alone: what peers say about sizes is checked against this.
 *
 * @module
 */
import { limits } from "../mesh/limits.ts";
import type { Lane } from "../mesh/link.ts";
import { hostedExperts, type Slice } from "../mesh/plan.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { parameterTable } from "../model/tensors.ts";

/** Sizes of a generation. */
export interface Sizes {
  readonly config: ModelConfig;
  /** Tokens of a microbatch. */
  readonly tokens: number;
  /** Bytes of an activation or its gradient: f32 [batch, sequence, hidden]. */
  readonly activationBytes: number;
  /** Bytes of one row: f32 [hidden]. */
  readonly rowBytes: number;
  /** The tied embedding: its name and number of words. */
  readonly tied: { readonly name: string; readonly words: number };
}

/** Bytes of one frame of a tied tensor: vocabularies make them too large for one. */
export const TIED_PIECE_BYTES = limits.chunkBytes;

/** Sizes of the generation that `slice` belongs to. Throws a `ConfigError` for a model it does not know. */
export function sizesOf(slice: Slice): Sizes {
  const config = parseConfig(slice.model);
  const tokens = slice.shape.batch * slice.shape.sequence;
  const embedding = parameterTable(config).find((tensor) => tensor.role === "embedding")!;
  return {
    config,
    tokens,
    activationBytes: tokens * config.hiddenSize * 4,
    rowBytes: config.hiddenSize * 4,
    tied: { name: embedding.name, words: config.vocabSize * config.hiddenSize },
  };
}

/** The most rows that one microbatch can send to a host of `hosted` experts of a layer: each token picks each at most once. */
export function mostRows(sizes: Sizes, hosted: number): number {
  return sizes.tokens * Math.min(sizes.config.expertsPerToken, hosted);
}

/** Largest payload of each lane, the same at both ends of every link of a generation. */
export function laneSizes(slice: Slice, sizes: Sizes): Record<Lane, number> {
  const workers = new Set(slice.stages.flatMap((stage) => stage.experts.flat()));
  let most = 0;
  for (const worker of workers) {
    for (const experts of hostedExperts(slice.stages, worker).values()) most = Math.max(most, experts.length);
  }
  const rows = mostRows(sizes, most) * sizes.rowBytes;
  const tied = sizes.config.tiedEmbeddings ? Math.min(TIED_PIECE_BYTES, sizes.tied.words * 4) : 0;
  return {
    pipeline: Math.max(sizes.activationBytes, tied),
    request: rows + 4 * Math.max(1, most),
    reply: Math.max(4, rows),
  };
}

/** Start and length in words of each frame of a tied tensor. */
export function tiedPieces(words: number): { start: number; length: number }[] {
  const most = TIED_PIECE_BYTES / 4, pieces = [];
  for (let start = 0; start < words; start += most) {
    pieces.push({ start, length: Math.min(most, words - start) });
  }
  return pieces;
}
