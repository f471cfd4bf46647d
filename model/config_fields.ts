/**
 * Typed access to the keys of a config.json: each key is understood, listed as inert, or refused by name.
 *
 * @module
 */
import { ConfigError } from "./errors.ts";

/** Keys that become part of the configuration. */
const understood = [
  "model_type",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "vocab_size",
  "rms_norm_eps",
  "rope_theta",
  "rope_parameters",
  "attention_bias",
  "tie_word_embeddings",
  "num_local_experts",
  "num_experts_per_tok",
  "shared_expert_intermediate_size",
  "ladder_residual",
  "router_aux_loss_coef",
  "router_z_loss_coef",
  "max_position_embeddings",
];

/** Keys that are only accepted with values that change nothing; see `refuseUnsupported`. */
const checked = [
  "rope_scaling",
  "sliding_window",
  "use_sliding_window",
  "max_window_layers",
  "layer_types",
  "hidden_act",
  "mlp_bias",
  "pretraining_tp",
  "attention_dropout",
  "router_jitter_noise",
  "norm_topk_prob",
  "use_mrope",
  "is_encoder_decoder",
  "add_cross_attention",
  "tie_encoder_decoder",
  "pruned_heads",
];

/** Keys that cannot change a logit: names, bookkeeping, storage types, and options of other programs' outputs. */
const inert = new Set([
  "architectures",
  "auto_map",
  "torch_dtype",
  "dtype",
  "transformers_version",
  "_name_or_path",
  "name_or_path",
  "_commit_hash",
  "_attn_implementation",
  "_attn_implementation_autoset",
  "attn_implementation",
  "tokenizer_class",
  "bos_token_id",
  "eos_token_id",
  "pad_token_id",
  "unk_token_id",
  "sep_token_id",
  "decoder_start_token_id",
  "initializer_range",
  "use_cache",
  "gradient_checkpointing",
  "output_router_logits",
  "output_attentions",
  "output_hidden_states",
  "return_dict",
  "torchscript",
  "use_bfloat16",
  "use_return_dict",
  "is_decoder",
  "id2label",
  "label2id",
  "problem_type",
  "task_specific_params",
  "finetuning_task",
  "prefix",
  "chunk_size_feed_forward",
  "cross_attention_hidden_size",
  "keys_to_ignore_at_inference",
  "tf_legacy_loss",
  "max_length",
]);

/** A config.json whose keys are all known. */
export interface Fields {
  /** True where the key is present and not null. */
  has(key: string): boolean;
  integer(key: string, least: number, most: number, fallback?: number): number;
  number(key: string, least: number, most: number, fallback?: number): number;
  boolean(key: string, fallback: boolean): boolean;
  /** Where rope_theta stands: at the top or, since transformers 5, inside rope_parameters. */
  ropeTheta(fallback: number): number;
  /** Refuses keys whose value asks for something that is not computed. */
  refuseUnsupported(maxPositions: number, layers: number): void;
}

/** @throws {ConfigError} naming every key that is not known. */
export function readFields(record: Record<string, unknown>, modelType: string): Fields {
  const known = new Set([...understood, ...checked]);
  const strangers = Object.keys(record).filter((key) => !known.has(key) && !inert.has(key));
  if (strangers.length > 0) {
    const keys = strangers.length === 1 ? "key" : "keys";
    throw new ConfigError(
      `The configuration (model_type ${modelType}) has the unknown ${keys} ` +
        `${strangers.map(quote).join(", ")}. A model is only read when every key is understood, so that ` +
        "it is never computed wrongly; take out of config.json what changes no result.",
    );
  }
  const has = (key: string) => record[key] !== undefined && record[key] !== null;
  const required = (key: string) =>
    new ConfigError(`The configuration lacks ${key}, which a ${modelType} model needs.`);
  const number = (key: string, least: number, most: number, fallback?: number) => {
    if (!has(key)) {
      if (fallback === undefined) throw required(key);
      return fallback;
    }
    const value = record[key];
    if (typeof value !== "number" || !(value >= least && value <= most)) {
      const range = most === Infinity ? `of at least ${least}` : `between ${least} and ${most}`;
      throw new ConfigError(`${key} is ${quote(value)}; it must be a number ${range}.`);
    }
    return value;
  };
  return {
    has,
    number,
    integer(key, least, most, fallback) {
      const value = number(key, least, most, fallback);
      if (!Number.isInteger(value)) throw new ConfigError(`${key} is ${value}; it must be a whole number.`);
      return value;
    },
    boolean(key, fallback) {
      if (!has(key)) return fallback;
      const value = record[key];
      if (typeof value !== "boolean") {
        throw new ConfigError(`${key} is ${quote(value)}; it must be true or false.`);
      }
      return value;
    },
    ropeTheta(fallback) {
      const nested = has("rope_parameters")
        ? plainRope(record.rope_parameters, "rope_parameters")
        : undefined;
      const given = [has("rope_theta") ? record.rope_theta : undefined, nested?.rope_theta]
        .filter((value) => value !== undefined);
      if (given.length === 2 && given[0] !== given[1]) {
        throw new ConfigError(
          `rope_theta is ${quote(given[0])} but rope_parameters says ${quote(given[1])}.`,
        );
      }
      const value = given.length === 0 ? fallback : given[0];
      if (typeof value !== "number" || !(value > 0 && value < Infinity)) {
        throw new ConfigError(`rope_theta is ${quote(value)}; it must be a number above 0.`);
      }
      return value;
    },
    refuseUnsupported: (maxPositions, layers) => refuseUnsupported(record, maxPositions, layers),
  };
}

/** The rope section, if it asks for nothing but a base. */
function plainRope(value: unknown, key: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConfigError(`${key} is ${quote(value)}; it must be an object or null.`);
  }
  const section = value as Record<string, unknown>;
  const type = section.rope_type ?? section.type ?? "default";
  const others = Object.keys(section).filter((name) => !["rope_type", "type", "rope_theta"].includes(name));
  if (type !== "default" || others.length > 0) {
    throw new ConfigError(
      `${key} asks for rope scaling (${quote(value)}), which changes every position's angle and is not ` +
        "computed here. Models with plain rotary embedding can be read.",
    );
  }
  return section;
}

function refuseUnsupported(record: Record<string, unknown>, maxPositions: number, layers: number): void {
  const present = (key: string) => record[key] !== undefined && record[key] !== null;
  const only = (key: string, allowed: readonly unknown[], reason: string) => {
    if (present(key) && !allowed.includes(record[key])) {
      throw new ConfigError(`${key} is ${quote(record[key])}, but ${reason}.`);
    }
  };
  only("hidden_act", ["silu", "swish"], "only SwiGLU (silu) is computed here");
  only("mlp_bias", [false], "biases in the MLP are not computed here");
  only(
    "pretraining_tp",
    [1],
    "projections summed in slices would round differently; set it to 1 to accept that",
  );
  only("attention_dropout", [0], "dropout is not computed here; set it to 0 to train without");
  only(
    "router_jitter_noise",
    [0],
    "noise on the router's input is not computed here; set it to 0 to train without",
  );
  only(
    "norm_topk_prob",
    [true],
    "a softmax over all experts before the top-k, without renormalising, is not computed here: gate weights must sum to 1",
  );
  only("use_mrope", [false], "multimodal rotary embedding is not computed here");
  for (const key of ["is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"]) {
    only(key, [false], "only decoders without cross-attention are computed here");
  }
  const pruned = record.pruned_heads;
  if (present("pruned_heads") && (typeof pruned !== "object" || Object.keys(pruned as object).length > 0)) {
    throw new ConfigError(`pruned_heads is ${quote(pruned)}, but every head must be there.`);
  }
  if (present("rope_scaling")) plainRope(record.rope_scaling, "rope_scaling");
  refuseWindows(record, maxPositions, layers);
}

/** Sliding windows are accepted only where they can never hide a position. */
function refuseWindows(record: Record<string, unknown>, maxPositions: number, layers: number): void {
  const types = record.layer_types;
  if (types !== undefined && types !== null) {
    if (!Array.isArray(types) || types.length !== layers) {
      throw new ConfigError(
        `layer_types must list ${layers} layers (num_hidden_layers); it is ${quote(types)}.`,
      );
    }
    const other = types.findIndex((type) => type !== "full_attention");
    if (other >= 0) {
      throw new ConfigError(
        `layer_types says ${quote(types[other])} for layer ${other}, but only full attention is ` +
          "computed here.",
      );
    }
  }
  const use = record.use_sliding_window;
  if (use !== undefined && use !== null && typeof use !== "boolean") {
    throw new ConfigError(`use_sliding_window is ${quote(use)}; it must be true or false.`);
  }
  const window = record.sliding_window ?? undefined;
  if (window === undefined || use === false) return;
  // Qwen2 windows only the layers from max_window_layers on, and only where use_sliding_window is set.
  const first = record.max_window_layers;
  if (record.model_type === "qwen2" && use === undefined) return;
  if (record.model_type === "qwen2" && typeof first === "number" && first >= layers) return;
  if (typeof window === "number" && window >= maxPositions) return;
  throw new ConfigError(
    `sliding_window is ${quote(window)} and in use, but attention here always sees the whole sequence: ` +
      "the model would be computed wrongly beyond that many tokens. Set sliding_window to null, and " +
      "max_position_embeddings to at most the window, to use it for short sequences only.",
  );
}

function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 200 ? text.slice(0, 200) + "..." : text;
}
