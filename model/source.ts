/**
 * Where tensors come from: a checkpoint, a fresh initialisation, a model grown on the fly. One shape for all, so that
 * whoever takes tensors need not care, and nobody ever holds a whole model.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";
import { CheckpointError } from "./errors.ts";
import { firstNonFinite } from "./dtypes.ts";

/** A model's tensors, range by range. */
export interface TensorSource {
  readonly config: ModelConfig;
  /** Elements `start`..`start + length` of the tensor of that name in `parameterTable(config)`, row by row, as f32. */
  read(name: string, start: number, length: number): Promise<Float32Array<ArrayBuffer>>;
}

/** The same tensors, each piece looked through for NaN and infinity. @throws {CheckpointError} naming tensor and place. */
export function finiteOnly(source: TensorSource): TensorSource {
  return {
    config: source.config,
    async read(name, start, length) {
      const words = await source.read(name, start, length);
      const at = firstNonFinite(words);
      if (at >= 0) {
        throw new CheckpointError(
          `Tensor ${name} holds ${words[at]} at element ${start + at}: a model with such a weight ` +
            "computes nothing. Take an earlier checkpoint.",
        );
      }
      return words;
    },
  };
}

/** Elements of one piece when tensors are streamed: 4 MiB of f32, large against a call's cost, small against memory. */
export const pieceLength = 1 << 20;

/** Pieces [start, length] that cover `length` elements. */
export function* pieces(
  length: number,
  largest: number = pieceLength,
): Generator<[start: number, length: number]> {
  for (let start = 0; start < length; start += largest) yield [start, Math.min(largest, length - start)];
}
