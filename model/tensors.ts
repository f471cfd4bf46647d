/**
 * The parameter table: every tensor of a model, by its Hugging Face name, in the one order in which the whole mesh
 * counts, votes and stores them.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";

/** What a tensor is for. */
export type TensorRole =
  | "embedding"
  | "input-norm"
  | "q-weight"
  | "q-bias"
  | "k-weight"
  | "k-bias"
  | "v-weight"
  | "v-bias"
  | "o-weight"
  | "post-norm"
  | "gate"
  | "up"
  | "down"
  | "router"
  | "shared-gate"
  | "shared-up"
  | "shared-down"
  | "expert-gate"
  | "expert-up"
  | "expert-down"
  | "final-norm"
  | "head";

/** One tensor of a model. */
export interface TensorSpec {
  /** Hugging Face name, such as "model.layers.0.self_attn.q_proj.weight". */
  readonly name: string;
  /** [out, in] for matrices, row by row. */
  readonly shape: readonly number[];
  /** Layer 0.., -1 for the embedding, the number of layers for the final norm and the head. */
  readonly layer: number;
  readonly role: TensorRole;
  /** The expert that it belongs to, for the three expert roles. */
  readonly expert?: number;
  /** Position in the table. */
  readonly order: number;
  /** Weight decay applies: two or more dimensions. */
  readonly decay: boolean;
}

/**
 * Every tensor of `config`. Dense layers have Qwen2's names, expert layers Mixtral's (w1 gate, w2 down, w3 up) plus
 * q, k and v biases where configured, and a shared expert between the router and the experts; a tied head is not listed.
 */
export function parameterTable(config: ModelConfig): TensorSpec[] {
  const { hiddenSize: D, intermediateSize: F, vocabSize: V, layers } = config;
  const q = config.heads * config.headDim, kv = config.kvHeads * config.headDim;
  const table: TensorSpec[] = [];
  const add = (name: string, shape: number[], layer: number, role: TensorRole, expert?: number) => {
    const rest = { name, shape, layer, role, order: table.length, decay: shape.length >= 2 };
    table.push(expert === undefined ? rest : { ...rest, expert });
  };
  add("model.embed_tokens.weight", [V, D], -1, "embedding");
  for (let l = 0; l < layers; l++) {
    const p = `model.layers.${l}.`;
    add(p + "input_layernorm.weight", [D], l, "input-norm");
    for (const [x, rows] of [["q", q], ["k", kv], ["v", kv]] as const) {
      add(`${p}self_attn.${x}_proj.weight`, [rows, D], l, `${x}-weight`);
      if (config.attentionBias) add(`${p}self_attn.${x}_proj.bias`, [rows], l, `${x}-bias`);
    }
    add(p + "self_attn.o_proj.weight", [D, q], l, "o-weight");
    add(p + "post_attention_layernorm.weight", [D], l, "post-norm");
    if (config.experts === 0) {
      add(p + "mlp.gate_proj.weight", [F, D], l, "gate");
      add(p + "mlp.up_proj.weight", [F, D], l, "up");
      add(p + "mlp.down_proj.weight", [D, F], l, "down");
      continue;
    }
    add(p + "block_sparse_moe.gate.weight", [config.experts, D], l, "router");
    if (config.sharedExpert > 0) {
      const x = `${p}block_sparse_moe.shared_expert.`, S = config.sharedExpert;
      add(x + "w1.weight", [S, D], l, "shared-gate");
      add(x + "w3.weight", [S, D], l, "shared-up");
      add(x + "w2.weight", [D, S], l, "shared-down");
    }
    for (let e = 0; e < config.experts; e++) {
      const x = `${p}block_sparse_moe.experts.${e}.`;
      add(x + "w1.weight", [F, D], l, "expert-gate", e);
      add(x + "w3.weight", [F, D], l, "expert-up", e);
      add(x + "w2.weight", [D, F], l, "expert-down", e);
    }
  }
  add("model.norm.weight", [D], layers, "final-norm");
  if (!config.tiedEmbeddings) add("lm_head.weight", [V, D], layers, "head");
  return table;
}

/** Elements of a tensor; 1 for a scalar. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** All parameters, and those that one token passes through (of each layer's experts only the chosen). */
export function countParameters(config: ModelConfig): { total: number; active: number } {
  let total = 0, active = 0;
  for (const spec of parameterTable(config)) {
    const size = elements(spec.shape);
    total += size;
    if (spec.expert === undefined || spec.expert < config.expertsPerToken) active += size;
  }
  return { total, active };
}
