/**
 * What a training run needs beside the weights to go on exactly where it stopped. It lies in a folder of its own beside
 * the model's (MODEL.state/), so that the model's folder stays one that other programs read.
 *
 * @module
 */
import type { Checkpoint } from "./checkpoint.ts";
import { readJson } from "./checkpoint.ts";
import type { TensorLayout } from "./safetensors_writer.ts";
import { CheckpointError } from "./errors.ts";
import { type FileReader, type FileStore, joinPath, withoutSlash, writeAtomic } from "./files.ts";
import { openSafetensors, readStored } from "./safetensors.ts";
import type { TensorSpec } from "./tensors.ts";

/** Version of state.json; it grows with every change that an older program would misread. */
export const stateVersion = 1;

/** A run's place in its recipe. */
export interface TrainingState {
  /** Committed optimizer steps. */
  readonly step: number;
  /** Samples drawn so far; see data_order.ts. */
  readonly position: number;
  readonly seed: number;
  /** The recipe as it was given, as JSON. */
  readonly recipe: unknown;
}

/** One of AdamW's two moments. */
export type Moment = "m" | "v";

/** A saved state with AdamW's moments. */
export interface SavedState {
  readonly state: TrainingState;
  /** Elements `start`.. of a tensor's moment, as f32. */
  readMoment(moment: Moment, name: string, start: number, length: number): Promise<Float32Array<ArrayBuffer>>;
}

/** Where the state of a model's folder lies. */
export function stateFolder(folder: string): string {
  return withoutSlash(folder) + ".state";
}

/** Name of a moment in moments.safetensors. */
export function momentName(moment: Moment, name: string): string {
  return `${moment}.${name}`;
}

/** The tensors of moments.safetensors: for each parameter m, then v. */
export function momentLayouts(table: readonly TensorSpec[]): TensorLayout[] {
  return table.flatMap(({ name, shape }) =>
    (["m", "v"] as const).map((moment) => ({ name: momentName(moment, name), dtype: "F32", shape }) as const)
  );
}

/**
 * Opens the state beside a checkpoint, or answers undefined where there is none.
 *
 * @throws {CheckpointError} if it belongs to other weights or another version.
 */
export async function openState(files: FileReader, checkpoint: Checkpoint): Promise<SavedState | undefined> {
  const folder = stateFolder(checkpoint.folder), path = joinPath(folder, "state.json");
  if (await files.size(path) === undefined) return undefined;
  const state = parseState(await readJson(files, path), path);
  const file = await openSafetensors(files, joinPath(folder, "moments.safetensors"));
  for (const [what, step] of [["the model", checkpoint.metadata.step], ["the moments", file.metadata.step]]) {
    if (step !== String(state.step)) {
      throw new CheckpointError(
        `${path} is of step ${state.step}, but ${what} beside it of step ${
          step ?? "(none)"
        }. Resume from another ` +
          `checkpoint, or train on from this model without its state.`,
      );
    }
  }
  const wanted = momentLayouts(checkpoint.table);
  for (const { name, shape } of wanted) {
    const got = file.tensors.get(name);
    if (got === undefined || got.dtype !== "F32" || got.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${file.path}: moment ${name} must be F32 [${shape.join(", ")}], but is ` +
          (got === undefined ? "missing." : `${got.dtype} [${got.shape.join(", ")}].`),
      );
    }
  }
  return {
    state,
    readMoment(moment, name, start, length) {
      const tensor = file.tensors.get(momentName(moment, name));
      if (tensor === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
      return readStored(files, file, tensor, start, length);
    },
  };
}

function parseState(json: unknown, path: string): TrainingState {
  const { version, step, position, seed, recipe } = (json ?? {}) as Record<string, unknown>;
  if (version !== stateVersion) {
    throw new CheckpointError(
      `${path} has version ${
        JSON.stringify(version) ?? "(none)"
      }; this program reads version ${stateVersion}. Resume ` +
        `with the program that wrote it.`,
    );
  }
  const count = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!count(step) || !count(position) || !Number.isSafeInteger(seed)) {
    throw new CheckpointError(`${path} lacks a whole step, position or seed; it is damaged.`);
  }
  return { step, position, seed: seed as number, recipe };
}

/** A run's newest checkpoint. */
export interface Latest {
  /** Relative to the run's folder. */
  readonly folder: string;
  readonly step: number;
}

/** Points the run at a checkpoint that is complete and on the disk; atomic. */
export async function writeLatest(files: FileStore, runFolder: string, latest: Latest): Promise<void> {
  const text = JSON.stringify({ version: stateVersion, folder: latest.folder, step: latest.step }) + "\n";
  await writeAtomic(files, joinPath(runFolder, "latest.json"), new TextEncoder().encode(text));
}

/** The run's newest checkpoint, or undefined before the first. @throws {CheckpointError} if the pointer is damaged. */
export async function readLatest(files: FileReader, runFolder: string): Promise<Latest | undefined> {
  const path = joinPath(runFolder, "latest.json");
  if (await files.size(path) === undefined) return undefined;
  const { version, folder, step } = await readJson(files, path) as Record<string, unknown>;
  if (version !== stateVersion || typeof folder !== "string" || !Number.isSafeInteger(step)) {
    throw new CheckpointError(
      `${path} is damaged or from another version; name the checkpoint's folder yourself.`,
    );
  }
  return { folder, step: step as number };
}
