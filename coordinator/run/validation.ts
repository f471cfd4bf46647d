/**
 * Validation over the mesh: rounds without gradients, added up.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import { addLosses } from "./decide.ts";
import { finiteOrNull, type Validation } from "../events.ts";
import type { Batch } from "../batch.ts";
import type { Generation } from "./generation.ts";

/** The validation text of a phase, in rounds. */
export interface ValidationData {
  readonly validation: readonly Batch[];
  /** Bytes of text for one validation token, to tell bits per byte. */
  readonly bytesPerToken: number;
}

/** Adds up the rounds of one validation. */
export class Tally {
  #nats = 0;
  #tokens = 0;

  add(loss: { readonly sum: number; readonly labels: number }): void {
    this.#nats += loss.sum;
    this.#tokens += loss.labels;
  }

  /** The sum so far; then it begins anew. */
  take(bytesPerToken: number): Validation {
    const nll = this.#nats / this.#tokens, tokens = this.#tokens;
    this.#nats = this.#tokens = 0;
    return {
      nll: finiteOrNull(nll),
      bitsPerByte: finiteOrNull(nll / Math.LN2 / bytesPerToken),
      tokens,
    };
  }
}

/** One validation and nothing else, over a generation that has begun. Undefined where there is no validation text. */
export async function validate(
  generation: Generation,
  config: ModelConfig,
  data: ValidationData,
): Promise<Validation | undefined> {
  const { validation, bytesPerToken } = data, { microbatches } = generation.plan.shape;
  if (validation.length === 0) return undefined;
  const tally = new Tally();
  const open = (round: number) => {
    if (round < validation.length) generation.open(round, "evaluate", validation[round]);
  };
  open(0);
  open(1);
  for (const [round, batch] of validation.entries()) {
    const answers = await generation.collect(round);
    open(round + 2);
    const losses = [...answers.values()].map((answer) => answer.losses);
    tally.add(addLosses(config, losses, microbatches, batch.validLabels));
  }
  return tally.take(bytesPerToken);
}
