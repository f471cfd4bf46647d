/** config.json of every known family, and of those that must be refused. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { configToJson, parseConfig, plainestType } from "../../model/config.ts";
import { ConfigError } from "../../model/errors.ts";
import { countParameters, parameterTable } from "../../model/tensors.ts";
import { smallConfig, smallJson } from "./models.ts";

/** Published configurations, key by key. */
const llama3 = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 128000,
  eos_token_id: 128001,
  hidden_act: "silu",
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 8192,
  model_type: "llama",
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-05,
  rope_scaling: null,
  rope_theta: 500000.0,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  transformers_version: "4.40.0.dev0",
  use_cache: true,
  vocab_size: 128256,
};
const qwen2 = {
  architectures: ["Qwen2ForCausalLM"],
  attention_dropout: 0.0,
  bos_token_id: 151643,
  eos_token_id: 151643,
  hidden_act: "silu",
  hidden_size: 896,
  initializer_range: 0.02,
  intermediate_size: 4864,
  max_position_embeddings: 32768,
  max_window_layers: 24,
  model_type: "qwen2",
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-06,
  rope_theta: 1000000.0,
  sliding_window: 32768,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  transformers_version: "4.40.1",
  use_cache: true,
  use_mrope: false,
  use_sliding_window: false,
  vocab_size: 151936,
};
const mixtral = {
  architectures: ["MixtralForCausalLM"],
  attention_dropout: 0.0,
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_act: "silu",
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  model_type: "mixtral",
  num_attention_heads: 32,
  num_experts_per_tok: 2,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  num_local_experts: 8,
  output_router_logits: false,
  rms_norm_eps: 1e-05,
  rope_theta: 1000000.0,
  router_aux_loss_coef: 0.02,
  sliding_window: null,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  transformers_version: "4.36.0.dev0",
  use_cache: true,
  vocab_size: 32000,
};
const aquilaMoe = {
  ...mixtral,
  architectures: ["AquilaMoeForCausalLM"],
  model_type: "aquilamoe",
  auto_map: { AutoConfig: "configuration_aquilamoe.AquilaMoeConfig" },
  attention_bias: true,
  hidden_size: 5120,
  intermediate_size: 20480,
  num_attention_heads: 40,
  num_hidden_layers: 40,
  max_position_embeddings: 4096,
  vocab_size: 151851,
};

Deno.test("published configurations are understood", () => {
  const l = parseConfig(llama3);
  assertEquals([l.modelType, l.headDim, l.kvHeads, l.attentionBias, l.experts], ["llama", 128, 8, false, 0]);
  assertEquals(countParameters(l).total, 8_030_261_248);
  const q = parseConfig(qwen2);
  assertEquals([q.headDim, q.attentionBias, q.tiedEmbeddings, q.rmsNormEps], [64, true, true, 1e-6]);
  assertEquals(countParameters(q).total, 494_032_768);
  const m = parseConfig(mixtral);
  assertEquals([m.experts, m.expertsPerToken, m.attentionBias, m.balanceCoefficient], [8, 2, false, 0.02]);
  assertEquals(countParameters(m), { total: 46_702_792_704, active: 12_879_925_248 });
  const a = parseConfig(aquilaMoe);
  assertEquals([a.attentionBias, a.zCoefficient, a.experts, a.headDim], [true, 0.01, 8, 128]);
  assertEquals(parseConfig({ ...aquilaMoe, model_type: "aquila_moe" }), a);
});

Deno.test("our own form needs no model_type and survives a round trip; so does every family", () => {
  assertEquals(smallConfig().modelType, "volary");
  for (
    const json of [
      smallJson({ num_local_experts: 4, num_experts_per_tok: 2 }),
      llama3,
      qwen2,
      mixtral,
      aquilaMoe,
    ]
  ) {
    const config = parseConfig(json);
    assertEquals(parseConfig(JSON.parse(JSON.stringify(configToJson(config)))), config);
  }
});

Deno.test("newer spellings that mean the same are understood", () => {
  const { rope_theta: _, ...rest } = llama3;
  const nested = {
    ...rest,
    rope_parameters: { rope_type: "default", rope_theta: 500000 },
    dtype: "bfloat16",
  };
  assertEquals(parseConfig(nested), parseConfig(llama3));
  assertEquals(parseConfig({ ...llama3, rope_scaling: { rope_type: "default" } }), parseConfig(llama3));
  assertEquals(
    parseConfig({ ...qwen2, layer_types: new Array(24).fill("full_attention") }),
    parseConfig(qwen2),
  );
  // A window as long as the context, or on layers that do not exist, hides nothing.
  assertEquals(parseConfig({ ...mixtral, sliding_window: 32768 }), parseConfig(mixtral));
  assertEquals(parseConfig({ ...qwen2, use_sliding_window: true, sliding_window: 4096 }), parseConfig(qwen2));
});

Deno.test("what would be computed wrongly is refused by name", () => {
  const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, rope_type: "llama3" };
  const cases: [Record<string, unknown>, string][] = [
    [{ ...llama3, rope_scaling: scaling }, "rope scaling"],
    [{ ...llama3, rope_parameters: { ...scaling, rope_theta: 500000 } }, "rope scaling"],
    [{ ...llama3, rope_parameters: { rope_theta: 10000 } }, "rope_parameters says 10000"],
    [{ ...llama3, attention_bias: true }, "a bias on o"],
    [{ ...llama3, mlp_bias: true }, "mlp_bias"],
    [{ ...llama3, hidden_act: "gelu" }, "hidden_act"],
    [{ ...llama3, pretraining_tp: 2 }, "pretraining_tp"],
    [{ ...llama3, attention_dropout: 0.1 }, "attention_dropout"],
    [{ ...llama3, num_local_experts: 8, num_experts_per_tok: 2 }, "models of type llama are dense"],
    [{ ...llama3, quantization_config: { bits: 4 } }, '"quantization_config"'],
    [
      { ...qwen2, use_sliding_window: true, sliding_window: 4096, max_window_layers: 12 },
      "sliding_window is 4096",
    ],
    [
      { ...qwen2, layer_types: [...new Array(23).fill("full_attention"), "sliding_attention"] },
      "for layer 23",
    ],
    [{ ...qwen2, attention_bias: false }, "always have biases"],
    [{ ...qwen2, use_mrope: true }, "use_mrope"],
    [{ ...mixtral, sliding_window: 4096 }, "sliding_window is 4096"],
    [{ ...mixtral, attention_bias: true }, "aquilamoe has them"],
    [{ ...mixtral, norm_topk_prob: false }, "without renormalising"],
    [{ ...mixtral, router_jitter_noise: 0.1 }, "router_jitter_noise"],
    [{ ...mixtral, model_type: "qwen2_moe", norm_topk_prob: false }, "without renormalising"],
    [{ ...llama3, model_type: "gemma" }, 'model_type "gemma" is not known'],
    [{ ...llama3, model_type: 3 }, "model_type 3 is not known"],
  ];
  for (const [json, part] of cases) {
    const error = assertThrows(() => parseConfig(json), ConfigError);
    assertStringIncludes(error.message, part);
    assertEquals(error.message.includes("\n"), false, "one paragraph");
  }
});

Deno.test("unknown, missing, mistyped and inconsistent keys are named", () => {
  const cases: [unknown, string][] = [
    [null, "must be a JSON object"],
    [[], "must be a JSON object"],
    [smallJson({ hiden_size: 3, dropout: 1 }), '"hiden_size", "dropout"'],
    [smallJson({ hidden_size: undefined }), "lacks hidden_size"],
    [smallJson({ hidden_size: "12" }), 'hidden_size is "12"'],
    [smallJson({ hidden_size: 12.5 }), "whole number"],
    [smallJson({ num_hidden_layers: 0 }), "num_hidden_layers is 0"],
    [smallJson({ vocab_size: 2 ** 40 }), "vocab_size is 1099511627776"],
    [smallJson({ attention_bias: 1 }), "must be true or false"],
    [smallJson({ rope_theta: -1 }), "rope_theta is -1"],
    [smallJson({ rms_norm_eps: NaN }), "rms_norm_eps"],
    [smallJson({ num_key_value_heads: 3 }), "4 query heads (num_attention_heads) cannot share 3"],
    [smallJson({ head_dim: 5 }), "even head size"],
    [smallJson({ head_dim: undefined, num_attention_heads: 8 }), "does not divide into 8 heads"],
    [smallJson({ num_local_experts: 4, num_experts_per_tok: 5 }), "visit 5 experts"],
    [smallJson({ num_local_experts: 4, num_experts_per_tok: 0 }), "visit 0 experts"],
    [smallJson({ num_local_experts: 4 }), "lacks num_experts_per_tok"],
    [{ ...mixtral, num_local_experts: undefined }, "lacks num_local_experts"],
    [{ ...qwen2, num_key_value_heads: undefined }, "lacks num_key_value_heads"],
  ];
  for (const [json, part] of cases) {
    assertStringIncludes(assertThrows(() => parseConfig(json), ConfigError).message, part);
  }
});

Deno.test("the parameter table has Hugging Face's names and shapes, in one order", () => {
  const table = parameterTable(
    smallConfig({ num_local_experts: 2, num_experts_per_tok: 1, num_hidden_layers: 1 }),
  );
  assertEquals(
    table.map(({ name, shape, layer, role, expert, decay }) =>
      [name.replace("model.layers.0.", "*"), shape.join("x"), layer, role, expert, decay].join(" ")
    ),
    [
      "model.embed_tokens.weight 17x12 -1 embedding  true",
      "*input_layernorm.weight 12 0 input-norm  false",
      "*self_attn.q_proj.weight 24x12 0 q-weight  true",
      "*self_attn.q_proj.bias 24 0 q-bias  false",
      "*self_attn.k_proj.weight 12x12 0 k-weight  true",
      "*self_attn.k_proj.bias 12 0 k-bias  false",
      "*self_attn.v_proj.weight 12x12 0 v-weight  true",
      "*self_attn.v_proj.bias 12 0 v-bias  false",
      "*self_attn.o_proj.weight 12x24 0 o-weight  true",
      "*post_attention_layernorm.weight 12 0 post-norm  false",
      "*block_sparse_moe.gate.weight 2x12 0 router  true",
      "*block_sparse_moe.experts.0.w1.weight 20x12 0 expert-gate 0 true",
      "*block_sparse_moe.experts.0.w3.weight 20x12 0 expert-up 0 true",
      "*block_sparse_moe.experts.0.w2.weight 12x20 0 expert-down 0 true",
      "*block_sparse_moe.experts.1.w1.weight 20x12 0 expert-gate 1 true",
      "*block_sparse_moe.experts.1.w3.weight 20x12 0 expert-up 1 true",
      "*block_sparse_moe.experts.1.w2.weight 12x20 0 expert-down 1 true",
      "model.norm.weight 12 1 final-norm  false",
      "lm_head.weight 17x12 1 head  true",
    ],
  );
  assertEquals(table.map(({ order }) => order), table.map((_, i) => i));
  const tied = parameterTable(smallConfig({ tie_word_embeddings: true, attention_bias: false }));
  assertEquals(tied.filter(({ role }) => role === "head" || role.endsWith("bias")), []);
});

Deno.test("the plainest family of a model is one that computes all of it", () => {
  const type = (experts: number, attentionBias: boolean, sharedExpert = 0, ladderResidual = false) =>
    plainestType({ experts, attentionBias, sharedExpert, ladderResidual });
  assertEquals([type(0, false), type(0, true)], ["llama", "qwen2"]);
  assertEquals([type(8, false), type(8, true)], ["mixtral", "aquilamoe"]);
  assertEquals([type(8, false, 20), type(8, true, 20)], ["volary", "volary"]);
  assertEquals(type(8, false, 0, true), "volary");
});

Deno.test("a shared expert: its key, its tensors, and where there is none", () => {
  const experts = { num_local_experts: 4, num_experts_per_tok: 2 };
  const key = "shared_expert_intermediate_size";
  const config = smallConfig({ ...experts, [key]: 7 });
  assertEquals([config.sharedExpert, smallConfig(experts).sharedExpert], [7, 0]);
  assertEquals(smallConfig({ ...experts, [key]: 0 }), smallConfig(experts));
  assertEquals(smallConfig({ [key]: 0 }), smallConfig());
  assertEquals(parseConfig({ ...aquilaMoe, [key]: 512 }).sharedExpert, 512);
  assertEquals(parseConfig({ ...mixtral, [key]: 0 }), parseConfig(mixtral));
  assertEquals(parseConfig(configToJson(config)), config);
  assert(!(key in configToJson(smallConfig(experts))));

  const p = "model.layers.1.block_sparse_moe.";
  const names = parameterTable(config).filter(({ layer }) => layer === 1).map(({ name }) => name);
  const at = names.indexOf(`${p}gate.weight`);
  assertEquals(names.slice(at + 1, at + 5), [
    `${p}shared_expert.w1.weight`,
    `${p}shared_expert.w3.weight`,
    `${p}shared_expert.w2.weight`,
    `${p}experts.0.w1.weight`,
  ]);
  const more = 2 * 3 * 7 * 12, { total, active } = countParameters(smallConfig(experts));
  assertEquals(countParameters(config), { total: total + more, active: active + more });

  for (
    const [json, part] of [
      [smallJson({ [key]: 7 }), `${key} is 7, but the model is dense`],
      [{ ...llama3, [key]: 7 }, `${key} is 7, but the model is dense`],
      [{ ...mixtral, [key]: 7 }, "models of type mixtral have no shared expert"],
      [smallJson({ ...experts, [key]: -1 }), `${key} is -1`],
      [smallJson({ ...experts, [key]: 1.5 }), `${key} is 1.5; it must be a whole number`],
      [smallJson({ ...experts, [key]: "7" }), `${key} is "7"`],
      [smallJson({ ...experts, [key]: 2 ** 30 }), `2 * ${key} is 2147483648`],
    ] as const
  ) assertThrows(() => parseConfig(json), ConfigError, part);
});
