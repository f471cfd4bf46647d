/**
 * Writes checkpoints as their tensors arrive, range by range and in any order. Nothing stands under the checkpoint's
 * name until all of it is on the disk.
 *
 * @module
 */
import { configToJson, type ModelConfig } from "../config.ts";
import { bytesOf, type DType } from "../dtypes.ts";
import { CheckpointError } from "../errors.ts";
import { type FileStore, folderOf, joinPath, withoutSlash } from "../files.ts";
import { entries, recoverCheckpoint, refuseExisting, removeFolder } from "./checkpoint_folders.ts";
import { SafetensorsWriter, type TensorLayout } from "./safetensors_writer.ts";
import { elements, parameterTable } from "../tensors.ts";
import {
  localLayouts,
  localName,
  type LocalPart,
  type Moment,
  momentLayouts,
  momentName,
  stateFolder,
  stateVersion,
  type TrainingState,
} from "./training_state.ts";

/** What goes into a checkpoint beside its tensors. */
export interface CheckpointOptions {
  readonly config: ModelConfig;
  /** Format of each weight; F32 unless given. */
  readonly dtype?: (name: string) => DType;
  /** With it, moments are expected too and go to FOLDER.state/. */
  readonly state?: TrainingState;
  /** Other files of the folder by plain name: tokenizer.json, README.md, generation_config.json. */
  readonly extras?: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  /** A new weight file begins where one would grow beyond this; 5 GB unless given, as other programs split. */
  readonly shardBytes?: number;
  /** Replace a checkpoint of that name (it stands aside as FOLDER.old until the new one is in place). */
  readonly replace?: boolean;
}

/** Which of a parameter's values. */
export type Part = "weight" | Moment;

/**
 * A checkpoint on its way: `create`, `write` every element of every part once, then `finish`, or `abort`.
 * A write that fails aborts.
 */
export class CheckpointWriter {
  readonly #files: FileStore;
  readonly #folder: string;
  readonly #replace: boolean;
  /** Weight files, each under its own names, and the moments under theirs. */
  readonly #writers: SafetensorsWriter[] = [];
  readonly #weights = new Map<string, SafetensorsWriter>();
  #moments: SafetensorsWriter | undefined;
  /** What replicas of local training do not have in common. */
  #local: SafetensorsWriter | undefined;
  readonly #pending = new Set<Promise<void>>();
  #failure: unknown;
  /** Of all files with tensors, once they are laid out. */
  #bytes = 0;

  private constructor(files: FileStore, folder: string, replace: boolean) {
    this.#files = files;
    this.#folder = withoutSlash(folder);
    this.#replace = replace;
  }

  /** @throws {CheckpointError} if something stands under that name already (and `replace` is not set). */
  static async create(
    files: FileStore,
    folder: string,
    options: CheckpointOptions,
  ): Promise<CheckpointWriter> {
    const writer = new CheckpointWriter(files, folder, options.replace ?? false);
    if (options.replace) await recoverCheckpoint(files, folder);
    else await refuseExisting(files, folder);
    for (const leftover of [writer.#partial, writer.#statePartial]) await removeFolder(files, leftover);
    try {
      await writer.#begin(options);
    } catch (error) {
      await writer.abort();
      throw writer.#explain(error);
    }
    return writer;
  }

  get #partial(): string {
    return this.#folder + ".partial";
  }

  get #statePartial(): string {
    return stateFolder(this.#folder) + ".partial";
  }

  async #begin(options: CheckpointOptions): Promise<void> {
    const { config, state } = options, table = parameterTable(config);
    await this.#files.makeFolder(this.#partial);
    const files = new Map(options.extras);
    files.set(
      "config.json",
      jsonBytes({ ...configToJson(config), torch_dtype: commonType(table, options.dtype) }),
    );
    const count = table.reduce((sum, { shape }) => sum + elements(shape), 0);
    this.#bytes = table.reduce(
      (sum, { name, shape }) => sum + elements(shape) * bytesOf[options.dtype?.(name) ?? "F32"],
      state === undefined ? 0 : 8 * count, // m and v in f32
    );
    const layouts = table.map(({ name, shape }): TensorLayout => ({
      name,
      shape,
      dtype: options.dtype?.(name) ?? "F32",
    }));
    const shards = split(layouts, options.shardBytes ?? 5e9);
    const metadata: Record<string, string> = state === undefined ? {} : { step: String(state.step) };
    const map: Record<string, string> = {};
    let total = 0;
    for (const [i, shard] of shards.entries()) {
      const pad = (n: number) => String(n).padStart(5, "0");
      const name = shards.length === 1
        ? "model.safetensors"
        : `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
      const writer = await SafetensorsWriter.create(
        this.#files,
        joinPath(this.#partial, name),
        shard,
        metadata,
      );
      this.#writers.push(writer);
      for (const layout of shard) {
        this.#weights.set(layout.name, writer);
        map[layout.name] = name;
        total += elements(layout.shape) * bytesOf[layout.dtype];
      }
    }
    if (shards.length > 1) {
      files.set(
        "model.safetensors.index.json",
        jsonBytes({ metadata: { total_size: total }, weight_map: map }),
      );
    }
    for (const [name, bytes] of files) {
      if (!/^[\w-][\w.-]*$/.test(name)) throw new Error(`${name} is no plain file name`);
      await this.#files.write(joinPath(this.#partial, name), 0, bytes);
      await this.#files.sync(joinPath(this.#partial, name));
    }
    if (state === undefined) return;
    await this.#files.makeFolder(this.#statePartial);
    const path = joinPath(this.#statePartial, "state.json");
    await this.#files.write(path, 0, jsonBytes({ version: stateVersion, ...state }));
    await this.#files.sync(path);
    const moments = joinPath(this.#statePartial, "moments.safetensors");
    this.#moments = await SafetensorsWriter.create(this.#files, moments, momentLayouts(table), metadata);
    this.#writers.push(this.#moments);
    if (state.local === undefined) return;
    const local = joinPath(this.#statePartial, "local.safetensors"), kept = localLayouts(table, state.local);
    this.#local = await SafetensorsWriter.create(this.#files, local, kept, metadata);
    this.#writers.push(this.#local);
  }

  /** Writes elements `start`.. of one part of a tensor. Calls may run at the same time. */
  write(part: Part, name: string, start: number, words: Float32Array<ArrayBuffer>): Promise<void> {
    return part === "weight"
      ? this.#write(this.#weights.get(name), name, start, words)
      : this.#write(this.#moments, momentName(part, name), start, words);
  }

  /** The same of a replica of local training; see {@linkcode localLayouts} for which there are. */
  writeLocal(
    part: LocalPart | "u",
    replica: number,
    name: string,
    start: number,
    words: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    return this.#write(this.#local, localName(part, replica, name), start, words);
  }

  #write(
    writer: SafetensorsWriter | undefined,
    name: string,
    start: number,
    words: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    const run = async () => {
      if (this.#failure !== undefined) throw this.#failure;
      if (writer === undefined) throw new Error(`${this.#folder} has no place for ${name}`);
      await writer.write(name, start, words);
    };
    const pending = run().catch((error) => {
      this.#failure ??= this.#explain(error);
      throw this.#failure;
    });
    const settled = pending.then(() => {}, () => {}).then(() => void this.#pending.delete(settled));
    this.#pending.add(settled);
    return pending;
  }

  /** Syncs everything and puts it in place. After a failure everything written is removed. */
  async finish(): Promise<void> {
    try {
      await this.#settled();
      if (this.#failure !== undefined) throw this.#failure;
      for (const writer of this.#writers) await writer.finish();
      await this.#files.sync(this.#partial);
      if (this.#moments !== undefined) await this.#files.sync(this.#statePartial);
    } catch (error) {
      await this.abort();
      throw this.#explain(error);
    }
    await this.#putInPlace();
  }

  async #putInPlace(): Promise<void> {
    const files = this.#files, moves = [[this.#partial, this.#folder]];
    // The state first: a model without its state could be taken for a finished one.
    if (this.#moments !== undefined) moves.unshift([this.#statePartial, stateFolder(this.#folder)]);
    const old = [this.#folder, stateFolder(this.#folder)];
    if (this.#replace) {
      for (const path of old) {
        await removeFolder(files, path + ".old");
        if (await entries(files, path) !== undefined) await files.rename(path, path + ".old");
      }
    }
    for (const [from, to] of moves) await files.rename(from, to);
    await files.sync(folderOf(this.#folder));
    if (this.#replace) { for (const path of old) await removeFolder(files, path + ".old"); }
  }

  /** Removes everything that was written. */
  async abort(): Promise<void> {
    this.#failure ??= new CheckpointError(`Writing ${this.#folder} was given up.`);
    await this.#settled();
    for (const path of [this.#partial, this.#statePartial]) await removeFolder(this.#files, path);
  }

  /** A full disk in words; everything else as it is. */
  #explain(error: unknown): unknown {
    const text = error instanceof Error ? `${(error as { code?: unknown }).code ?? ""} ${error.message}` : "";
    if (!/ENOSPC|no space left|quota/i.test(text)) return error;
    const needs = this.#bytes > 0 ? ` It needs ${(this.#bytes / 1e6).toFixed(1)} MB in all.` : "";
    return new CheckpointError(
      `The disk is full: ${this.#folder} was not written, and what was written of it is removed.${needs} Free some space ` +
        `there (older checkpoints, for example), or choose a target on another disk, and try again.`,
    );
  }

  async #settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }
}

/** Greedily, in order: a tensor larger than the limit gets a file of its own. */
function split(layouts: readonly TensorLayout[], limit: number): TensorLayout[][] {
  const shards: TensorLayout[][] = [];
  let room = 0;
  for (const layout of layouts) {
    const bytes = elements(layout.shape) * bytesOf[layout.dtype];
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = limit;
    }
    shards[shards.length - 1].push(layout);
    room -= bytes;
  }
  return shards;
}

function commonType(table: readonly { name: string }[], dtype?: (name: string) => DType): string {
  const types = new Set(table.map(({ name }) => dtype?.(name) ?? "F32"));
  if (types.size > 1 || types.has("F32")) return "float32";
  return types.has("F16") ? "float16" : "bfloat16";
}

function jsonBytes(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n");
}
