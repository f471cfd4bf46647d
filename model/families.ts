/**
 * The families of models whose configurations are read: what the code of each assumes where its config.json is silent.
 *
 * @module
 */

/** Families whose config.json is understood; "volary" is our own and the one meant where no model_type is given. */
export type ModelType = "volary" | "llama" | "qwen2" | "mixtral" | "aquila" | "aquiladense" | "aquilamoe";

/** What a family's own code assumes where its config.json is silent (Hugging Face transformers' class defaults). */
export interface Family {
  readonly eps: number;
  readonly theta: number;
  readonly positions: number;
  /** "given": the key attention_bias says; otherwise the family's code has them or has them not. */
  readonly bias: "given" | "always" | "never";
  readonly biasDefault: boolean;
  readonly experts: "none" | "required" | "optional";
  readonly balance: number;
  readonly z: number;
}

const dense = { bias: "given", biasDefault: false, experts: "none", balance: 0, z: 0 } as const;
/** The families, by the name of their model_type. */
export const families: Readonly<Record<ModelType, Family>> = {
  volary: { ...dense, eps: 1e-5, theta: 1e6, positions: 4096, experts: "optional" },
  llama: { ...dense, eps: 1e-6, theta: 1e4, positions: 2048 },
  qwen2: { ...dense, eps: 1e-6, theta: 1e4, positions: 32768, bias: "always", biasDefault: true },
  mixtral: {
    ...dense,
    eps: 1e-5,
    theta: 1e6,
    positions: 131072,
    bias: "never",
    experts: "required",
    balance: 0.001,
  },
  aquila: { ...dense, eps: 1e-6, theta: 1e4, positions: 2048 },
  aquiladense: { ...dense, eps: 1e-5, theta: 1e6, positions: 4096, biasDefault: true },
  aquilamoe: {
    ...dense,
    eps: 1e-5,
    theta: 1e6,
    positions: 4096,
    biasDefault: true,
    experts: "required",
    balance: 0.001,
    z: 0.01,
  },
};

/** Names of all families. */
export const modelTypes = Object.keys(families) as readonly ModelType[];

/** Other spellings under which a family has been published. */
export const aliases: Readonly<Record<string, ModelType>> = {
  aquila_moe: "aquilamoe",
  aquila_dense: "aquiladense",
  aquila2: "aquila",
  aquila3: "aquiladense",
};

/** Names of the classes that compute each family elsewhere. */
export const architectures: Readonly<Record<ModelType, string>> = {
  volary: "VolaryForCausalLM",
  llama: "LlamaForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  mixtral: "MixtralForCausalLM",
  aquila: "AquilaForCausalLM",
  aquiladense: "AquilaDenseForCausalLM",
  aquilamoe: "AquilaMoeForCausalLM",
};
