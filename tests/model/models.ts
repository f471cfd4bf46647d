/** Small models for tests. */
import { type ModelConfig, parseConfig } from "../../model/config.ts";
import { drawNormal } from "../../model/init.ts";
import type { TensorSource } from "../../model/source.ts";
import { elements, parameterTable } from "../../model/tensors.ts";

/** config.json of a small model. */
export function smallJson(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 6,
    vocab_size: 17,
    attention_bias: true,
    ...more,
  };
}

/** Its configuration. */
export function smallConfig(more: Record<string, unknown> = {}): ModelConfig {
  return parseConfig(smallJson(more));
}

/** Weights large enough that every term matters; gains around 1, biases not zero. */
export function randomWeights(config: ModelConfig, seed = 1): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    parameterTable(config).map(({ name, shape, role }) => {
      const words = drawNormal(
        seed,
        name,
        0,
        elements(shape),
        role === "router" ? 0.4 : role === "embedding" ? 0.5 : 0.2,
      );
      return [name, role.endsWith("norm") ? words.map((word) => 1 + word) : words];
    }),
  );
}

/** Weights in memory as a source. */
export function memorySource(config: ModelConfig, weights: ReadonlyMap<string, Float32Array>): TensorSource {
  return {
    config,
    read: (name, start, length) =>
      Promise.resolve(Float32Array.from(weights.get(name)!.subarray(start, start + length))),
  };
}

/** Every tensor of a source, whole. */
export async function readAll(source: TensorSource): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const weights = new Map<string, Float32Array<ArrayBuffer>>();
  for (const { name, shape } of parameterTable(source.config)) {
    weights.set(name, await source.read(name, 0, elements(shape)));
  }
  return weights;
}
