/**
 * The model's configuration: Hugging Face's config.json as far as this program computes it exactly, and nothing else.
 *
 * Llama, Qwen2, Mixtral and the Aquila family share one architecture here: RMSNorm, rotate-half RoPE, grouped-query
 * attention with or without biases on q, k and v, SwiGLU, dense or as a mixture of experts whose gate is a softmax over
 * the chosen. Keys that cannot change a result are ignored by name; every other key must be understood.
 *
 * @module
 */
import { type Fields, readFields } from "./config_fields.ts";
import { ConfigError } from "./errors.ts";
import { aliases, architectures, families, type Family, type ModelType } from "./families.ts";

/** A model as numbers. */
export interface ModelConfig {
  readonly modelType: ModelType;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Width of the MLP, or of each expert. */
  readonly intermediateSize: number;
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads; divides `heads`. */
  readonly kvHeads: number;
  /** Even; heads * headDim need not be hiddenSize. */
  readonly headDim: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  /** Biases on q, k and v; there is never one on o. */
  readonly attentionBias: boolean;
  /** The head is the embedding; the parameter table then has no lm_head. */
  readonly tiedEmbeddings: boolean;
  /** Experts of each layer; 0 for a dense model. */
  readonly experts: number;
  /** Experts that a token visits; 0 for a dense model. */
  readonly expertsPerToken: number;
  /** Width of an MLP that every token of a MoE layer visits beside its chosen experts, ungated; 0 for none. */
  readonly sharedExpert: number;
  /**
   * Each layer's attention reads the stream without the experts' output of the layer before, which joins it only then: rows
   * are away at experts on other devices meanwhile (after Ladder-Residual, Zhang et al. 2025). Mixtures of experts only.
   */
  readonly ladderResidual: boolean;
  /** Factor of the balancing loss E * sum_e f_e P_e, summed over layers; 0 for a dense model. */
  readonly balanceCoefficient: number;
  /** Factor of the router's z-loss, summed over layers; 0 for a dense model. */
  readonly zCoefficient: number;
  /** Positions that the model was made for; RoPE itself has no end. */
  readonly maxPositions: number;
}

/** Largest accepted size of any axis: tensors are addressed in 32 bits. */
const largest = 2 ** 31 - 1;
/** Deepest accepted model (deepest published: 126 layers) and most experts of a layer (most published: 512). */
const mostLayers = 1024, mostExperts = 1024;

/**
 * Reads the parsed JSON of a config.json.
 *
 * @throws {ConfigError} naming the key that is unknown, missing, inconsistent, or that asks for something this program
 * does not compute.
 */
export function parseConfig(json: unknown): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new ConfigError(
      "The model's configuration must be a JSON object such as a Hugging Face config.json.",
    );
  }
  const record = json as Record<string, unknown>;
  const modelType = parseModelType(record.model_type, record);
  const family = families[modelType];
  const fields = readFields(record, modelType);
  const heads = fields.integer("num_attention_heads", 1, largest);
  const hiddenSize = fields.integer("hidden_size", 1, largest);
  const experts = parseExperts(fields, family, modelType);
  const config: ModelConfig = {
    modelType,
    hiddenSize,
    intermediateSize: fields.integer("intermediate_size", 1, largest),
    layers: fields.integer("num_hidden_layers", 1, mostLayers),
    heads,
    kvHeads: parseKvHeads(fields, modelType, heads),
    headDim: parseHeadDim(fields, hiddenSize, heads),
    vocabSize: fields.integer("vocab_size", 1, largest),
    rmsNormEps: fields.number("rms_norm_eps", 0, 1, family.eps),
    ropeTheta: fields.ropeTheta(family.theta),
    attentionBias: parseBias(fields, family, modelType),
    tiedEmbeddings: fields.boolean("tie_word_embeddings", false),
    ...experts,
    ladderResidual: fields.boolean("ladder_residual", false),
    maxPositions: fields.integer("max_position_embeddings", 1, largest, family.positions),
  };
  fields.refuseUnsupported(config.maxPositions, config.layers);
  checkConfig(config);
  return config;
}

/**
 * Checks what no single key can say.
 *
 * @throws {ConfigError} with the numbers that contradict each other.
 */
export function checkConfig(config: ModelConfig): void {
  const { heads, kvHeads, headDim, experts, expertsPerToken } = config;
  if (heads % kvHeads !== 0) {
    throw new ConfigError(
      `${heads} query heads (num_attention_heads) cannot share ${kvHeads} key/value heads (num_key_value_heads): ` +
        `the first must be a multiple of the second.`,
    );
  }
  if (headDim % 2 !== 0) {
    throw new ConfigError(
      `head_dim is ${headDim}, but rotary embedding turns pairs: choose an even head size.`,
    );
  }
  if (experts > 0 && (expertsPerToken < 1 || expertsPerToken > experts)) {
    throw new ConfigError(
      `Each token should visit ${expertsPerToken} experts (num_experts_per_tok), but a layer has ${experts} ` +
        `(num_local_experts): choose between 1 and ${experts}.`,
    );
  }
  if (config.sharedExpert > 0 && experts === 0) {
    throw new ConfigError(
      `shared_expert_intermediate_size is ${config.sharedExpert}, but the model is dense: a shared expert stands beside ` +
        `the routed ones of a mixture of experts. Give num_local_experts, or take the key out.`,
    );
  }
  if (config.ladderResidual) checkLadder(config);
  for (
    const [what, size] of [
      ["num_attention_heads * head_dim", heads * headDim],
      ["2 * intermediate_size", 2 * config.intermediateSize],
      ["2 * shared_expert_intermediate_size", 2 * config.sharedExpert],
    ] as const
  ) {
    if (size > largest) {
      throw new ConfigError(`${what} is ${size}; the largest axis that is computed is ${largest}.`);
    }
  }
}

function checkLadder({ experts, modelType }: ModelConfig): void {
  if (experts === 0) {
    throw new ConfigError(
      "ladder_residual is true, but the model is dense: a ladder residual hides the way to experts on other workers and " +
        "back. Give num_local_experts, or take the key out.",
    );
  }
  if (modelType !== "volary") {
    throw new ConfigError(
      `ladder_residual is true, but models of type ${modelType} have the plain residual and would be computed without it: ` +
        "the type volary keeps it.",
    );
  }
}

/**
 * The config.json of `config`: read again by `parseConfig` it gives an equal configuration. Plain JSON values only.
 */
export function configToJson(config: ModelConfig): Record<string, string | number | boolean | string[]> {
  const moe = config.experts > 0;
  return {
    architectures: [architectures[config.modelType]],
    model_type: config.modelType,
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxPositions,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    attention_bias: config.attentionBias,
    tie_word_embeddings: config.tiedEmbeddings,
    ...(moe
      ? {
        num_local_experts: config.experts,
        num_experts_per_tok: config.expertsPerToken,
        ...(config.sharedExpert > 0 ? { shared_expert_intermediate_size: config.sharedExpert } : {}),
        router_aux_loss_coef: config.balanceCoefficient,
        router_z_loss_coef: config.zCoefficient,
        ...(config.ladderResidual ? { ladder_residual: true } : {}),
      }
      : {}),
  };
}

/**
 * The family whose own code computes exactly this model, for exported folders: "aquilamoe" where none is common, our own
 * for a shared expert, which no published family has in this form (ungated, beside Mixtral's experts), and for a ladder
 * residual.
 */
export function plainestType(
  config: Pick<ModelConfig, "experts" | "attentionBias" | "sharedExpert" | "ladderResidual">,
): ModelType {
  if (config.sharedExpert > 0 || config.ladderResidual) return "volary";
  if (config.experts > 0) return config.attentionBias ? "aquilamoe" : "mixtral";
  return config.attentionBias ? "qwen2" : "llama";
}

function parseModelType(value: unknown, record: Record<string, unknown>): ModelType {
  if (value === undefined || value === null) return "volary";
  const known = Object.keys(families).join(", ");
  if (typeof value === "string") {
    const name = value.toLowerCase();
    if (Object.hasOwn(families, name)) return name as ModelType;
    if (Object.hasOwn(aliases, name)) return aliases[name];
  }
  const why = record.norm_topk_prob === false
    ? " Its gate (softmax over all experts before the top-k, without renormalising) is not computed here either."
    : "";
  throw new ConfigError(
    `model_type ${JSON.stringify(value)} is not known, and models of another architecture would be ` +
      `computed wrongly. Known: ${known}.${why}`,
  );
}

function parseExperts(fields: Fields, family: Family, modelType: ModelType) {
  const experts = family.experts === "required"
    ? fields.integer("num_local_experts", 1, mostExperts)
    : fields.integer("num_local_experts", 0, mostExperts, 0);
  const expertsPerToken = experts === 0
    ? fields.integer("num_experts_per_tok", 0, mostExperts, 0)
    : fields.integer("num_experts_per_tok", 0, mostExperts);
  const balanceCoefficient = fields.number("router_aux_loss_coef", 0, Infinity, family.balance);
  const zCoefficient = fields.number("router_z_loss_coef", 0, Infinity, family.z);
  const sharedExpert = fields.integer("shared_expert_intermediate_size", 0, largest, 0);
  // A shared expert of a dense model is refused by checkConfig.
  if (experts === 0) {
    return { experts: 0, expertsPerToken: 0, sharedExpert, balanceCoefficient: 0, zCoefficient: 0 };
  }
  if (family.experts === "none") {
    throw new ConfigError(
      `num_local_experts is ${experts}, but models of type ${modelType} are dense. A mixture of experts has the type ` +
        `mixtral (no biases), aquilamoe (biases on q, k, v) or volary.`,
    );
  }
  if (modelType === "mixtral" && sharedExpert > 0) {
    throw new ConfigError(
      `shared_expert_intermediate_size is ${sharedExpert}, but models of type mixtral have no shared expert and would ` +
        `lose it: the types volary and aquilamoe keep it.`,
    );
  }
  return { experts, expertsPerToken, sharedExpert, balanceCoefficient, zCoefficient };
}

function parseKvHeads(fields: Fields, modelType: ModelType, heads: number): number {
  // Llama's own code falls back to plain multi-head attention; the others have defaults that fit one model size only.
  const optional = modelType === "llama" || modelType === "aquila" || modelType === "volary";
  return fields.integer("num_key_value_heads", 1, largest, optional ? heads : undefined);
}

function parseHeadDim(fields: Fields, hiddenSize: number, heads: number): number {
  if (fields.has("head_dim")) return fields.integer("head_dim", 1, largest);
  if (hiddenSize % heads !== 0) {
    throw new ConfigError(
      `hidden_size ${hiddenSize} does not divide into ${heads} heads (num_attention_heads): give head_dim, or choose ` +
        `a hidden_size that is a multiple.`,
    );
  }
  return hiddenSize / heads;
}

function parseBias(fields: Fields, family: Family, modelType: ModelType): boolean {
  const value = fields.boolean("attention_bias", family.biasDefault);
  if (modelType === "llama" && value) {
    throw new ConfigError(
      "attention_bias is true, which in models of type llama puts a bias on o as well; that one is not computed here. " +
        "Biases on q, k and v alone have the type qwen2.",
    );
  }
  if (family.bias === "always" && !value) {
    throw new ConfigError(
      `attention_bias is false, but models of type ${modelType} always have biases on q, k and v.`,
    );
  }
  if (family.bias === "never" && value) {
    throw new ConfigError(
      `attention_bias is true, but models of type ${modelType} have no biases: the type aquilamoe has them.`,
    );
  }
  return value;
}
