/**
 * What the residual stream is where a model is cut between two layers.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";

/**
 * Words between two stages for `tokens` tokens: the stream [T, D]; with a ladder residual [2, T, D], the stream and what the
 * last layer's experts will add to it.
 */
export function borderWords(
  { hiddenSize, ladderResidual }: Pick<ModelConfig, "hiddenSize" | "ladderResidual">,
  tokens: number,
): number {
  return (ladderResidual ? 2 : 1) * tokens * hiddenSize;
}
