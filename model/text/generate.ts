/**
 * Continuing a text.
 *
 * @module
 */
import { Decoder } from "./decoder.ts";
import { ModelError } from "../errors.ts";
import type { LoadedModel } from "../layers/local_model.ts";
import { checkSampling, chooseToken, type SamplingOptions } from "./sampling.ts";

/** Options of {@linkcode generate}. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** A token that ends the text; it is not given out itself. */
  readonly stop?: number;
}

/**
 * Generates tokens after `prompt`, one by one. The same model, prompt and options give the same tokens on the same device.
 * The device's memory is given back when the generator ends or its consumer stops.
 *
 * ```ts ignore
 * for await (const id of generate(model, prompt, { maxTokens: 50, temperature: 0.8, topP: 0.95, seed: 1 })) show(id);
 * ```
 *
 * @throws {RangeError} For options or token ids that mean nothing, or an empty prompt.
 * @throws {ModelError} For a text longer than the model's positions, or logits that are not numbers.
 */
export async function* generate(
  model: LoadedModel,
  prompt: Uint32Array<ArrayBuffer>,
  options: GenerateOptions,
): AsyncGenerator<number, void, void> {
  const { maxTokens, stop } = options;
  checkSampling(options);
  if (!Number.isInteger(maxTokens) || maxTokens < 0) {
    throw new RangeError(`Cannot generate ${maxTokens} tokens: the number must be a whole one`);
  }
  if (prompt.length === 0) {
    throw new RangeError(
      "Cannot continue an empty prompt: begin with the tokenizer's first token or some text",
    );
  }
  if (maxTokens === 0) return;
  const { maxPositions } = model.config;
  // The last token is given out without being read back in.
  const capacity = prompt.length + maxTokens - 1;
  if (capacity > maxPositions) {
    const left = maxPositions - prompt.length + 1;
    throw new ModelError(
      `Cannot generate ${maxTokens} tokens after a prompt of ${prompt.length}: the model was made for ` +
        `${maxPositions} positions. ` +
        (left > 0 ? `Ask for at most ${left}.` : `Use a prompt of at most ${maxPositions} tokens.`),
    );
  }
  const decoder = new Decoder(model, capacity);
  try {
    let logits = await decoder.extend(prompt);
    for (let made = 1;; made++) {
      const token = chooseToken(logits, options, decoder.length);
      if (token === stop) return;
      yield token;
      if (made === maxTokens) return;
      logits = await decoder.extend(Uint32Array.of(token));
    }
  } finally {
    decoder.release();
  }
}
