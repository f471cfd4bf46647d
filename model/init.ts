/**
 * Fresh models: every tensor a pure function of the seed and its name, drawn when it is asked for.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";
import { randomStream } from "./random.ts";
import type { TensorSource } from "./source.ts";
import { elements, parameterTable, type TensorRole } from "./tensors.ts";

/** Standard deviation of fresh weights, as in GPT-2, Llama and Mixtral (initializer_range). */
export const initialDeviation = 0.02;

/** Elements drawn from one stream, so that a range in the middle of a tensor does not need all before it. */
const drawn = 4096;

/**
 * A fresh model. Weights are normal with `deviation`, those that write into the residual stream (o and down, also the
 * experts') divided by sqrt(2 layers) (GPT-2: Radford et al. 2019, 2.3); norm gains are 1 and biases 0.
 */
export function freshModel(
  config: ModelConfig,
  seed: number,
  deviation: number = initialDeviation,
): TensorSource {
  const specs = new Map(parameterTable(config).map((spec) => [spec.name, spec]));
  return {
    config,
    // deno-lint-ignore require-await -- a source is asynchronous; this one only computes
    async read(name, start, length) {
      const spec = specs.get(name);
      if (spec === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
      if (start < 0 || length < 0 || start + length > elements(spec.shape)) {
        throw new RangeError(`Elements ${start}..${start + length} lie outside ${name} [${spec.shape}]`);
      }
      const kind = initialKind(spec.role);
      if (kind === "one" || kind === "zero") return new Float32Array(length).fill(kind === "one" ? 1 : 0);
      const scale = kind === "residual" ? deviation / Math.sqrt(2 * config.layers) : deviation;
      return drawNormal(seed, name, start, length, scale);
    },
  };
}

/** Elements `start`.. of a tensor of normal numbers that depends on the seed and the name only. */
export function drawNormal(
  seed: number,
  name: string,
  start: number,
  length: number,
  deviation: number,
): Float32Array<ArrayBuffer> {
  const words = new Float32Array(length);
  for (let chunk = Math.floor(start / drawn); chunk * drawn < start + length; chunk++) {
    const stream = randomStream(seed, "init", name, chunk);
    const end = Math.min(start + length, (chunk + 1) * drawn);
    for (let i = chunk * drawn; i < end; i++) {
      const value = stream.normal() * deviation;
      if (i >= start) words[i - start] = value;
    }
  }
  return words;
}

function initialKind(role: TensorRole): "normal" | "residual" | "one" | "zero" {
  switch (role) {
    case "input-norm":
    case "post-norm":
    case "final-norm":
      return "one";
    case "q-bias":
    case "k-bias":
    case "v-bias":
      return "zero";
    case "o-weight":
    case "down":
    case "shared-down":
    case "expert-down":
      return "residual";
    default:
      return "normal";
  }
}
