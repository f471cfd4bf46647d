/**
 * Choosing the next token from a model's logits.
 *
 * @module
 */
import { ModelError } from "../errors.ts";
import { randomStream } from "../random.ts";

/** How tokens are chosen. */
export interface SamplingOptions {
  /** Divides the logits; 0 always takes the likeliest token. */
  readonly temperature: number;
  /** Only the likeliest tokens whose probabilities together reach this share are drawn from (Holtzman et al. 2020); 1: all. */
  readonly topP: number;
  /** Draws are a pure function of the seed and the token's position. */
  readonly seed: number;
}

/** Throws a RangeError for a temperature, share or seed that means nothing. */
export function checkSampling({ temperature, topP, seed }: SamplingOptions): void {
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new RangeError(
      `Cannot sample at temperature ${temperature}: it must be 0 (greedy) or more, and finite`,
    );
  }
  if (!(topP > 0 && topP <= 1)) {
    throw new RangeError(`Cannot sample from a share of ${topP}: top-p must be above 0 and at most 1`);
  }
  if (!Number.isFinite(seed)) throw new RangeError(`Cannot sample with the seed ${seed}: it must be finite`);
}

/** The largest logit's token; of equal ones the first. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token] > logits[best]) best = token;
  return best;
}

/**
 * The token at `position` of a text, given its logits [vocabulary].
 *
 * @throws {ModelError} Where a logit is NaN or infinity, or none is finite: the model's weights are broken.
 */
export function chooseToken(logits: Float32Array, options: SamplingOptions, position: number): number {
  const best = likeliest(logits);
  const broken = logits[best] === -Infinity ? best : logits.findIndex((logit) => !(logit < Infinity));
  if (broken >= 0) {
    throw new ModelError(
      `Cannot choose a token: the model gives token ${broken} the logit ${logits[broken]}. ` +
        `Its weights are damaged or its training diverged; take an earlier checkpoint.`,
    );
  }
  if (options.temperature === 0) return best;
  const { tokens, weights } = candidates(logits, logits[best], options);
  let total = 0;
  for (const weight of weights) total += weight;
  const target = randomStream(options.seed, "sample", position).uniform() * total;
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    sum += weights[i];
    if (target < sum) return tokens === undefined ? i : tokens[i];
  }
  // Only where rounding leaves the sum a hair below the target.
  return best;
}

/** Unnormalised probabilities: of all tokens, or of the likeliest ones in falling order. */
function candidates(
  logits: Float32Array,
  largest: number,
  { temperature, topP }: SamplingOptions,
): { tokens: Uint32Array | undefined; weights: Float64Array } {
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  if (topP === 1) return { tokens: undefined, weights };
  let total = 0;
  for (const weight of weights) total += weight;
  // Equal probabilities by index, so that the nucleus does not depend on the sorting algorithm.
  const order = Uint32Array.from(weights, (_, token) => token).sort((a, b) =>
    weights[b] - weights[a] || a - b
  );
  let count = 0;
  let sum = 0;
  while (count < order.length && sum < topP * total) sum += weights[order[count++]];
  const tokens = order.subarray(0, count);
  return { tokens, weights: Float64Array.from(tokens, (token) => weights[token]) };
}
