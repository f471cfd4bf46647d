/**
 * What a worker holds on its device: parameters with their gradients and moments, and what passes keep. The words are
 * those that model/layers/attention_block.ts, mlp_block.ts, moe_*.ts, held_experts.ts, head.ts and expert_bank.ts take.
 *
 * Legend as in cost_model.ts.
 *
 * @module
 */
import type { Shape } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { expertRows } from "./cost_model.ts";

/** Parameters of the parts that a plan can place. */
export interface PartSizes {
  readonly embedding: number;
  /** A layer without its routed experts; a shared one belongs to it. */
  readonly layer: number;
  /** One expert of one layer. */
  readonly expert: number;
  /** The final norm and, where it is not tied, the output matrix. */
  readonly head: number;
}

/** Counts the model's parameter table by part; all layers of a model are alike. */
export function partSizes(config: ModelConfig): PartSizes {
  const one = parameterTable({ ...config, layers: 1 });
  const sum = (own: (spec: typeof one[number]) => boolean) =>
    one.filter(own).reduce((words, { shape }) => words + elements(shape), 0);
  return {
    embedding: sum((spec) => spec.layer < 0),
    layer: sum((spec) => spec.layer === 0 && spec.expert === undefined),
    expert: sum((spec) => spec.layer === 0 && spec.expert === 0),
    head: sum((spec) => spec.layer === 1),
  };
}

/** Bytes of a parameter: weight, gradient and two moments, f32. */
export const ownedBytes = 16;

/** Bytes of a parameter's bf16 copy, where products read one. */
export const packedBytes = 2;

/** Bytes of the copy that a tied head has of the embedding on another worker: weight and gradient. */
export const copyBytes = 8;

/** Bytes of a tied head's gradient where the embedding is on the same worker. */
export const tiedGradientBytes = 4;

/** Words of one microbatch in one layer. */
export interface LayerWords {
  /** Kept from the forward to the backward pass, with the rows of the experts that the stage holds itself. */
  readonly kept: number;
  /** Taken once more while one backward pass runs. */
  readonly working: number;
}

/**
 * Words of one microbatch that a layer keeps between the halves of a split backward pass, beside what it kept before: of
 * each half of the layer the gradient as it came in and that of its norm's output. Gradients inside take the place of what
 * they are gradients of. Without recomputation; see model/layers/weight_work.ts.
 */
export function halfWords({ experts, sharedExpert, hiddenSize: D }: ModelConfig, tokens: number): number {
  // Where all is routed, the second half needs no gradient of its own as it came in: its rows' have a place already.
  return (experts > 0 && sharedExpert === 0 ? 3 : 4) * tokens * D;
}

/** What a layer keeps whose stage holds `own` of its experts. */
export function layerWords(
  config: ModelConfig,
  { batch, sequence }: Omit<Shape, "microbatches">,
  own: number,
  recompute: boolean,
): LayerWords & { readonly halved: number } {
  const { hiddenSize: D, intermediateSize: F, heads: H, kvHeads: K, headDim: hd, experts: E } = config;
  const T = batch * sequence, W = (H + 2 * K) * hd, R = T * config.expertsPerToken;
  const shared = 3 * T * config.sharedExpert;
  const ownRows = expertRows(config, T, own);
  const attention = T * (D + 1 + W + H * hd + H);
  const middle = E === 0
    ? T * (D + 1 + 3 * F)
    : T * (D + 1 + E) + 3 * R + E + 1 + R * D + ownRows * (D + 3 * F) + shared;
  // A ladder's streams are what the layers before left; what experts add is apart until it joins, and needs zeros to begin at.
  const ladder = config.ladderResidual ? T * D : 0;
  const full = 2 * T * D - ladder + attention + middle;
  const backward = Math.max(
    T * (H * hd + H + W + D),
    E === 0 ? T * (3 * F + D) : 2 * R * D + R + T * E + T * D + 3 * F * ownRows + shared,
  );
  const halved = full + halfWords(config, T);
  if (!recompute) return { kept: full, working: backward + 3 * ladder, halved };
  return {
    kept: T * D + ladder + (R - ownRows) * D,
    working: full - T * D + backward + 4 * ladder,
    halved,
  };
}

/** What a host keeps of one microbatch for `experts` experts of another worker's layer, and takes while it works. */
export interface GuestWords extends LayerWords {
  /** Of what it takes, what it still has when the rows have been answered and gradients of weights have not been added to. */
  readonly owed: number;
}

/** See {@linkcode GuestWords}. */
export function guestWords(
  config: ModelConfig,
  tokens: number,
  experts: number,
  recompute: boolean,
): GuestWords {
  const { hiddenSize: D, intermediateSize: F } = config, rows = expertRows(config, tokens, experts);
  const inner = 3 * F * rows;
  return {
    kept: rows * D + (recompute ? 0 : inner),
    working: rows * 2 * D + inner + (recompute ? inner : 0),
    // Gradients of what was kept, or is computed again, take its place.
    owed: rows * D + (recompute ? inner : 0),
  };
}

/** Words of logits that exist at once (as in model/layers/head.ts): 64 MiB, but at least 64 rows. */
const LOGIT_WORDS = 1 << 24;

/** What the head keeps for each microbatch (the gradient of its input), and takes while it works. */
export function headWords(config: ModelConfig, tokens: number): LayerWords {
  const { hiddenSize: D, vocabSize: V } = config;
  const chunk = Math.max(64, Math.floor(LOGIT_WORDS / V / 64) * 64);
  return { kept: tokens * D, working: Math.min(tokens, chunk) * V + 2 * tokens * D };
}
