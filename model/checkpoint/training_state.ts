/**
 * What a training run needs beside the weights to go on exactly where it stopped. It lies in a folder of its own beside
 * the model's (MODEL.state/), so that the model's folder stays one that other programs read.
 *
 * @module
 */
import type { Checkpoint } from "./checkpoint.ts";
import { readJson } from "./checkpoint.ts";
import type { TensorLayout } from "./safetensors_writer.ts";
import { CheckpointError } from "../errors.ts";
import { type FileReader, type FileStore, joinPath, withoutSlash, writeAtomic } from "../files.ts";
import { openSafetensors, readStored, type SafetensorsFile } from "./safetensors.ts";
import type { TensorSpec } from "../tensors.ts";

/** Version of state.json; it grows with every change that an older program would misread. */
export const stateVersion = 1;

/** Where training stands. */
export interface TrainingState {
  /** Committed optimizer steps since the moments began. */
  readonly step: number;
  /** Samples drawn so far; see data_order.ts. */
  readonly position: number;
  readonly seed: number;
  /** What else whoever trains needs to go on, as JSON: of a run the text of its recipe and its position in it. */
  readonly recipe: unknown;
  /** In the middle of local training: what its replicas do not have in common. */
  readonly local?: LocalState;
}

/** Replicas of local training (DiLoCo) behind an outer step: their weights are alike, the rest is each one's own. */
export interface LocalState {
  readonly replicas: number;
  /** The replica that owns the embedding, each layer and the end of the model, in this order. */
  readonly owners: readonly number[];
  /** Each replica's committed steps since its moments began. */
  readonly moments: readonly number[];
}

/** What a replica keeps of a tensor: its moments and, where another replica owns it, what rounding left out ("e"). */
export type LocalPart = Moment | "e";

/** One of AdamW's two moments. */
export type Moment = "m" | "v";

/** A saved state with AdamW's moments. */
export interface SavedState {
  readonly state: TrainingState;
  /** Elements `start`.. of a tensor's moment, as f32. */
  readMoment(moment: Moment, name: string, start: number, length: number): Promise<Float32Array<ArrayBuffer>>;
  /**
   * The same of one replica of local training, or the momentum of its outer steps ("u"); moments of owners are those of
   * `readMoment`.
   */
  readLocal(
    part: LocalPart | "u",
    replica: number,
    name: string,
    start: number,
    length: number,
  ): Promise<Float32Array<ArrayBuffer>>;
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

/** Name of a replica's part in local.safetensors; the outer momentum is there once for all. */
export function localName(part: LocalPart | "u", replica: number, name: string): string {
  return part === "u" ? `u.${name}` : `${part}.${replica}.${name}`;
}

/** The tensors of local.safetensors: for each parameter the outer momentum, then what replicas that do not own it keep. */
export function localLayouts(
  table: readonly TensorSpec[],
  { replicas, owners }: Pick<LocalState, "replicas" | "owners">,
): TensorLayout[] {
  return table.flatMap(({ name, shape, layer }) => [
    { name: localName("u", 0, name), dtype: "F32", shape } as const,
    ...Array.from({ length: replicas }, (_, replica) => replica).filter((replica) =>
      replica !== owners[layer + 1]
    ).flatMap((replica) =>
      (["m", "v", "e"] as const).map((part) =>
        ({ name: localName(part, replica, name), dtype: "F32", shape }) as const
      )
    ),
  ]);
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
        `${path} is of step ${state.step}, but ${what} beside it of step ${step ?? "(none)"}. Resume ` +
          "from another checkpoint, or train on from this model without its state.",
      );
    }
  }
  checkTensors(file, momentLayouts(checkpoint.table));
  const local = state.local && await openSafetensors(files, joinPath(folder, "local.safetensors"));
  if (local) checkTensors(local, localLayouts(checkpoint.table, state.local!));
  const read = (from: SafetensorsFile, name: string, start: number, length: number) => {
    const tensor = from.tensors.get(name);
    if (tensor === undefined) throw new Error(`${from.path} has no tensor ${name}`);
    return readStored(files, from, tensor, start, length);
  };
  const layers = new Map(checkpoint.table.map(({ name, layer }) => [name, layer]));
  return {
    state,
    readMoment: (moment, name, start, length) => read(file, momentName(moment, name), start, length),
    readLocal(part, replica, name, start, length) {
      if (local === undefined) throw new Error(`${folder} is not of local training`);
      const owned = state.local!.owners[layers.get(name)! + 1] === replica;
      return (part === "m" || part === "v") && owned
        ? read(file, momentName(part, name), start, length)
        : read(local, localName(part, replica, name), start, length);
    },
  };
}

/** @throws {CheckpointError} for a tensor that is missing or of another type or shape. */
function checkTensors(file: SafetensorsFile, wanted: readonly TensorLayout[]): void {
  for (const { name, shape } of wanted) {
    const got = file.tensors.get(name);
    if (got === undefined || got.dtype !== "F32" || got.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${file.path}: ${name} must be F32 [${shape.join(", ")}], but is ` +
          (got === undefined ? "missing." : `${got.dtype} [${got.shape.join(", ")}].`),
      );
    }
  }
}

function parseState(json: unknown, path: string): TrainingState {
  const { version, step, position, seed, recipe, local } = (json ?? {}) as Record<string, unknown>;
  if (version !== stateVersion) {
    throw new CheckpointError(
      `${path} has version ${JSON.stringify(version) ?? "(none)"}; this program reads version ` +
        `${stateVersion}. Resume with the program that wrote it.`,
    );
  }
  const count = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!count(step) || !count(position) || !Number.isSafeInteger(seed)) {
    throw new CheckpointError(`${path} lacks a whole step, position or seed; it is damaged.`);
  }
  if (local !== undefined && !isLocal(local, count)) {
    throw new CheckpointError(`${path} does not say whose its replicas' tensors are; it is damaged.`);
  }
  return { step, position, seed: seed as number, recipe, ...(local === undefined ? {} : { local }) };
}

function isLocal(json: unknown, count: (value: unknown) => value is number): json is LocalState {
  const { replicas, owners, moments } = (json ?? {}) as Record<string, unknown>;
  return count(replicas) && Array.isArray(owners) &&
    owners.every((owner) => count(owner) && owner < replicas) &&
    Array.isArray(moments) && moments.length === replicas && moments.every(count);
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
