/**
 * What factors of matrix products are rounded to. Plain data, for whoever plans without a device.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";
import { ModelError } from "./errors.ts";

/** f32, or bf16 with sums, master weights and everything else in f32. */
export type Precision = "f32" | "bf16";

/**
 * Throws {@linkcode ModelError} where a model cannot be computed in a precision: packed rows must begin at words, whatever row
 * of a matrix they are.
 */
export function checkPrecision(
  { hiddenSize, intermediateSize, sharedExpert, heads, headDim }: ModelConfig,
  precision: Precision,
): void {
  if (precision === "f32") return;
  const widths = {
    hidden_size: hiddenSize,
    intermediate_size: intermediateSize,
    shared_expert_intermediate_size: sharedExpert,
    "num_attention_heads * head_dim": heads * headDim,
  };
  for (const [name, width] of Object.entries(widths)) {
    if (width % 2 === 0) continue;
    throw new ModelError(
      `Cannot compute in bf16 with ${name} = ${width}: two elements share a word, so widths must be even. ` +
        `Use precision = "f32", or an even width.`,
    );
  }
}
