/**
 * How large everything is that crosses a link, from the plan alone: what peers say about sizes is checked against this.
 *
 * @module
 */
import { limits } from "../mesh/limits.ts";
import type { Lane, LaneSize } from "../mesh/link/link.ts";
import { hostedExperts, type Slice } from "../mesh/plan.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { borderWords } from "../model/layers/residual.ts";
import { parameterTable } from "../model/tensors.ts";
import type { Bundle } from "./replica_bundles.ts";

/** Sizes of a generation. */
export interface Sizes {
  readonly config: ModelConfig;
  /** Tokens of a microbatch. */
  readonly tokens: number;
  /** Bytes of an activation or its gradient: f32 [batch, sequence, hidden], twice that with a ladder residual. */
  readonly activationBytes: number;
  /** Bytes of one row: f32 [hidden]. */
  readonly rowBytes: number;
  /** The tied embedding: its name and number of words. */
  readonly tied: { readonly name: string; readonly words: number };
}

/** Bytes of one frame of a tensor (tied ones, those of replicas): vocabularies make them too large for one. */
const TENSOR_PIECE_BYTES = limits.chunkBytes;

/** Sizes of the generation that `slice` belongs to. Throws a `ConfigError` for a model it does not know. */
export function sizesOf(slice: Slice): Sizes {
  const config = parseConfig(slice.model);
  const tokens = slice.shape.batch * slice.shape.sequence;
  const embedding = parameterTable(config).find((tensor) => tensor.role === "embedding")!;
  return {
    config,
    tokens,
    activationBytes: borderWords(config, tokens) * 4,
    rowBytes: config.hiddenSize * 4,
    tied: { name: embedding.name, words: config.vocabSize * config.hiddenSize },
  };
}

/** The most rows that one microbatch can send to a host of `hosted` experts of a layer: each token picks each at most once. */
export function mostRows(sizes: Sizes, hosted: number): number {
  return sizes.tokens * Math.min(sizes.config.expertsPerToken, hosted);
}

/**
 * Largest payload of each lane, the same at both ends of a link. Between pipelines everything that a round brings is granted
 * ahead: gradients arrive in the order in which the other pipeline's layers are ready, and wait until ours are.
 */
export function laneSizes(slice: Slice, sizes: Sizes, bundles: readonly Bundle[]): Record<Lane, LaneSize> {
  if (bundles.length > 0) {
    const pieces = (owned: boolean) =>
      bundles.reduce((sum, bundle) => sum + (bundle.owned === owned ? piecesOf(bundle.words).length : 0), 0);
    const most = Math.max(...bundles.map(({ words }) => 4 * words));
    // The other end counts the same with the roles changed. Gradients of the next round come once weights are taken.
    const frames = Math.max(pieces(true), pieces(false), 1);
    return { pipeline: { frameBytes: Math.min(TENSOR_PIECE_BYTES, most), frames }, request: 0, reply: 0 };
  }
  const workers = new Set(slice.stages.flatMap((stage) => stage.experts.flat()));
  let most = 0;
  for (const worker of workers) {
    for (const experts of hostedExperts(slice.stages, worker).values()) most = Math.max(most, experts.length);
  }
  const rows = mostRows(sizes, most) * sizes.rowBytes;
  const tied = sizes.config.tiedEmbeddings ? Math.min(TENSOR_PIECE_BYTES, sizes.tied.words * 4) : 0;
  return {
    pipeline: Math.max(sizes.activationBytes, tied),
    request: rows + 4 * Math.max(1, most),
    reply: Math.max(4, rows),
  };
}

/** Start and length in words of each frame of something that is too large for one. */
export function piecesOf(words: number): { start: number; length: number }[] {
  const most = TENSOR_PIECE_BYTES / 4, pieces = [];
  for (let start = 0; start < words; start += most) {
    pieces.push({ start, length: Math.min(most, words - start) });
  }
  return pieces;
}
