/**
 * What `bench step` trains: the model and the batch of its PyTorch peer.
 *
 * @module
 */
import type { StepSettings } from "../../model/layers/local_model.ts";
import { parseConfig } from "../../model/config.ts";
import { randomStream } from "../../model/random.ts";

/** 5.05 M parameters. */
export const config = parseConfig({
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  vocab_size: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
  attention_bias: true,
  tie_word_embeddings: false,
  num_local_experts: 8,
  num_experts_per_tok: 2,
  router_aux_loss_coef: 0.01,
  router_z_loss_coef: 0,
});

/** Sequences of a batch, and tokens of a sequence. */
export const BATCH = 8, SEQUENCE = 128;

/** Everything of a step's settings but its number. */
export const settings: Omit<StepSettings, "step"> = {
  learningRate: 3e-4,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

/** The batch of a step: tokens from a quarter of the vocabulary, labels shifted by one. */
export function batch(step: number, size = BATCH, sequence = SEQUENCE) {
  const draw = randomStream(1, "step", step);
  const tokens = Uint32Array.from(
    { length: size * (sequence + 1) },
    () => draw.integer(config.vocabSize / 4),
  );
  const ids = new Uint32Array(size * sequence), labels = new Uint32Array(size * sequence);
  for (let b = 0; b < size; b++) {
    const row = tokens.subarray(b * (sequence + 1), (b + 1) * (sequence + 1));
    ids.set(row.subarray(0, sequence), b * sequence);
    labels.set(row.subarray(1), b * sequence);
  }
  return { sequences: { ids, batch: size, sequence }, labels };
}
