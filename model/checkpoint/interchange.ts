/**
 * Models in and out: any source of tensors becomes a Hugging Face folder, piece by piece, whole or not at all.
 *
 * @module
 */
import type { Checkpoint } from "./checkpoint.ts";
import { type CheckpointOptions, CheckpointWriter } from "./checkpoint_writer.ts";
import { configToJson, type ModelConfig, parseConfig, plainestType } from "../config.ts";
import type { ModelType } from "../families.ts";
import { decodeWords, type DType, encodeWords } from "../dtypes.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import type { FileStore } from "../files.ts";
import { finiteOnly, pieceLength, pieces, type TensorSource } from "../source.ts";
import { elements, parameterTable } from "../tensors.ts";

/** How a model is written. */
export interface WriteOptions extends Pick<CheckpointOptions, "dtype" | "extras" | "shardBytes"> {
  /** Called after each piece with parameters written and all. */
  readonly onProgress?: (written: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Pieces that are read, made and written at a time, so that the disk and the processor wait for each other less. */
export const piecesAtOnce = 4;

/** The largest finite number of f16. */
const largestHalf = 65504;

/**
 * Streams a model into a folder. Memory stays at a few pieces of 4 MiB (and what the source itself needs).
 *
 * @throws {CheckpointError} naming a tensor with NaN, infinity, or a value that its format cannot hold; the folder is
 * then not there.
 */
export async function writeModel(
  files: FileStore,
  folder: string,
  source: TensorSource,
  options: WriteOptions = {},
): Promise<void> {
  const checked = finiteOnly(source), table = parameterTable(source.config);
  const total = table.reduce((sum, { shape }) => sum + elements(shape), 0);
  const writer = await CheckpointWriter.create(files, folder, { ...options, config: source.config });
  const underWay = new Set<Promise<void>>();
  let written = 0, failure: { readonly error: unknown } | undefined;
  const one = async (name: string, start: number, length: number) => {
    const words = await checked.read(name, start, length);
    if (options.dtype?.(name) === "F16") refuseOverflow(name, start, words);
    await writer.write("weight", name, start, words);
    written += length;
    options.onProgress?.(written, total);
  };
  try {
    for (const { name, shape } of table) {
      for (const [start, length] of pieces(elements(shape), alignedPiece(shape))) {
        while (underWay.size >= piecesAtOnce) await Promise.race(underWay);
        if (failure !== undefined) throw failure.error;
        options.signal?.throwIfAborted();
        const job: Promise<void> = one(name, start, length)
          .catch((error) => void (failure ??= { error }))
          .finally(() => void underWay.delete(job));
        underWay.add(job);
      }
    }
    await Promise.all(underWay);
    if (failure !== undefined) throw failure.error;
    options.signal?.throwIfAborted();
  } catch (error) {
    await Promise.all(underWay);
    await writer.abort();
    throw error;
  }
  await writer.finish();
}

/**
 * The same model under a family that other programs have code for. Unless `type` says otherwise: llama or qwen2 for dense
 * models, mixtral for experts without biases; with experts and biases only aquilamoe holds all of it (plain Mixtral would
 * lose the biases).
 *
 * @throws {CheckpointError} if models of that type cannot be this one.
 */
export function forExport(
  source: TensorSource,
  type: ModelType = plainestType(source.config),
): TensorSource {
  const config: ModelConfig = { ...source.config, modelType: type };
  try {
    parseConfig(configToJson(config));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new CheckpointError(`This model cannot be exported as ${type}: ${error.message}`);
  }
  return { config, read: (name, start, length) => source.read(name, start, length) };
}

/** The model as it will be read back once it is stored in these formats. */
export function asStored(source: TensorSource, dtype: (name: string) => DType): TensorSource {
  return {
    config: source.config,
    async read(name, start, length) {
      const words = await source.read(name, start, length), format = dtype(name);
      return format === "F32" ? words : decodeWords(format, encodeWords(format, words));
    },
  };
}

/** Each tensor in the format that it has in a checkpoint, for lossless copies. */
export function storedFormat(checkpoint: Checkpoint): (name: string) => DType {
  return (name) => checkpoint.dtype(name);
}

/** Whole rows where a row is not larger than a piece: sources that expand rows then make none twice. */
function alignedPiece(shape: readonly number[]): number {
  const row = elements(shape.slice(1));
  return row > pieceLength ? pieceLength : row * Math.floor(pieceLength / row);
}

function refuseOverflow(name: string, start: number, words: Float32Array): void {
  const at = words.findIndex((word) => Math.abs(word) > largestHalf);
  if (at >= 0) {
    throw new CheckpointError(
      `Tensor ${name} holds ${words[at]} at element ${start + at}, which F16 cannot hold (at most ` +
        `${largestHalf}). Write BF16 or F32 instead.`,
    );
  }
}
