/**
 * A run's folder: the recipe as it was started with, every event as a line, checkpoints, and which of them is the newest.
 *
 *     recipe.toml  metrics.jsonl  generation  latest.json  checkpoints/step-000120/  checkpoints/step-000120.state/
 *
 * @module
 */
import { type Checkpoint, openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { CheckpointWriter } from "../../model/checkpoint/checkpoint_writer.ts";
import type { ModelConfig } from "../../model/config.ts";
import { joinPath, readText, writeAtomic } from "../../model/files.ts";
import {
  type LocalState,
  openState,
  readLatest,
  type SavedState,
  writeLatest,
} from "../../model/checkpoint/training_state.ts";
import type { Storage } from "../../mesh/runtime.ts";
import { JournalError } from "../errors.ts";
import type { Position, RunEvent } from "../events.ts";
import type { SnapshotWriter } from "./parameters.ts";

/** A checkpoint to go on from. */
export interface Resumable {
  readonly path: string;
  readonly checkpoint: Checkpoint;
  readonly saved: SavedState;
  readonly position: Position;
  /** What the experts of the next step are balanced over, where that is a whole batch. */
  readonly load?: number[][];
}

/** What goes into a checkpoint beside the tensors. */
export interface CheckpointInfo {
  readonly config: ModelConfig;
  readonly position: Position;
  /** Steps done over all phases: the checkpoint's name, with the number of a switch that no step follows. */
  readonly steps: number;
  readonly switched?: number;
  /** Samples of the phase's text that were drawn, and the seed of their order. */
  readonly samples: number;
  readonly seed: number;
  /** See {@linkcode Resumable}. */
  readonly load?: number[][];
  /** In the middle of local training. */
  readonly local?: LocalState;
  /** The tokenizer's file and the like. */
  readonly extras: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** See the module's description. */
export class Journal {
  /** Newest complete checkpoint, absolute or relative as the folder was given. */
  latest: string | undefined;
  #lines: Promise<void> = Promise.resolve();
  #end = 0;

  private constructor(
    private readonly storage: Storage,
    readonly folder: string,
    /** The recipe's text as the run was started with. */
    readonly recipe: string,
  ) {}

  /** Begins a run. Throws {@linkcode JournalError} where one of that name exists. */
  static async begin(storage: Storage, folder: string, recipe: string): Promise<Journal> {
    if (await storage.size(joinPath(folder, "recipe.toml")) !== undefined) {
      throw new JournalError(
        `There is a run in ${folder} already. Go on with it by --resume, give the recipe another name, or remove the folder.`,
      );
    }
    await storage.makeFolder(folder);
    await storage.makeFolder(joinPath(folder, "checkpoints"));
    await writeAtomic(storage, joinPath(folder, "recipe.toml"), new TextEncoder().encode(recipe));
    return new Journal(storage, folder, recipe);
  }

  /** Opens the folder of a run that was begun before. */
  static async open(storage: Storage, folder: string): Promise<Journal> {
    const recipe = await readText(storage, joinPath(folder, "recipe.toml"));
    if (recipe === undefined) {
      throw new JournalError(`There is no run in ${folder} to resume; start it without --resume.`);
    }
    const journal = new Journal(storage, folder, recipe);
    journal.#end = await endOfLines(storage, joinPath(folder, "metrics.jsonl"));
    const latest = await readLatest(storage, folder);
    if (latest !== undefined) journal.latest = joinPath(folder, latest.folder);
    return journal;
  }

  /** The newest checkpoint with everything that going on exactly takes, or undefined before the first. */
  async resumable(): Promise<Resumable | undefined> {
    if (this.latest === undefined) return undefined;
    const checkpoint = await openCheckpoint(this.storage, this.latest);
    const saved = await openState(this.storage, checkpoint);
    if (saved === undefined) {
      throw new JournalError(
        `${this.latest} has no optimizer state beside it; the run cannot go on exactly from it.`,
      );
    }
    const { load } = (saved.state.recipe ?? {}) as { load?: number[][] };
    return {
      path: this.latest,
      checkpoint,
      saved,
      position: place(saved.state.recipe, this.latest),
      ...(load === undefined ? {} : { load }),
    };
  }

  /** The highest generation of plans that this run had; 0 before the first. */
  async generation(): Promise<number> {
    const text = await readText(this.storage, joinPath(this.folder, "generation"));
    const number = text === undefined ? 0 : Number(text);
    if (!Number.isSafeInteger(number) || number < 0) {
      throw new JournalError(
        `${joinPath(this.folder, "generation")} is damaged: it must hold a whole number.`,
      );
    }
    return number;
  }

  /** Notes a generation before anyone hears of it. */
  async setGeneration(generation: number): Promise<void> {
    const bytes = new TextEncoder().encode(`${generation}\n`);
    await writeAtomic(this.storage, joinPath(this.folder, "generation"), bytes);
  }

  /** Adds a line to metrics.jsonl, in order of the calls. */
  append(event: RunEvent): void {
    const bytes = new TextEncoder().encode(JSON.stringify(event) + "\n");
    const at = this.#end;
    this.#end += bytes.length;
    this.#lines = this.#lines.then(() =>
      this.storage.write(joinPath(this.folder, "metrics.jsonl"), at, bytes)
    );
    this.#lines.catch(() => {}); // `settled` tells
  }

  /** Resolves once every line is written. */
  settled(): Promise<void> {
    return this.#lines;
  }

  /** Writes a checkpoint that `fill` puts the tensors into; it becomes the newest once it is whole and on the disk. */
  async checkpoint(info: CheckpointInfo, fill: (writer: SnapshotWriter) => Promise<void>): Promise<string> {
    const name = `checkpoints/step-${String(info.steps).padStart(6, "0")}` +
      (info.switched === undefined ? "" : `-phase-${info.switched}`);
    const path = joinPath(this.folder, name);
    const writer = await CheckpointWriter.create(this.storage, path, {
      config: info.config,
      extras: info.extras,
      replace: true,
      state: {
        step: info.position.moments,
        position: info.samples,
        seed: info.seed,
        ...(info.local === undefined ? {} : { local: info.local }),
        recipe: {
          text: this.recipe,
          position: { ...info.position },
          ...(info.load === undefined ? {} : { load: info.load }),
        },
      },
    });
    try {
      await fill(writer);
    } catch (error) {
      await writer.abort();
      throw error;
    }
    await writer.finish();
    await writeLatest(this.storage, this.folder, { folder: name, step: info.steps });
    this.latest = path;
    return path;
  }
}

/** Reads back what `checkpoint` put beside the recipe. */
function place(recipe: unknown, path: string): Position {
  const { position } = (recipe ?? {}) as { position?: Partial<Position> };
  // Before there were switches, the moments began with the run.
  const moments = position?.moments ?? position?.committed;
  const numbers = [position?.phase, position?.step, position?.committed, moments];
  if (!numbers.every((n) => Number.isSafeInteger(n) && (n as number) >= 0)) {
    throw new JournalError(
      `${path}.state/state.json does not say where the run stood; use an earlier checkpoint.`,
    );
  }
  const { phase, step, committed } = position as Position;
  return { phase, step, committed, moments: moments! };
}

/** Bytes of a file up to its last end of a line: what a kill or a full disk cut off behind it is written over. */
async function endOfLines(storage: Storage, path: string): Promise<number> {
  const piece = 1 << 16;
  for (let end = await storage.size(path) ?? 0; end > 0; end -= piece) {
    const start = Math.max(0, end - piece);
    const at = (await storage.read(path, start, end)).lastIndexOf(10);
    if (at >= 0) return start + at + 1;
  }
  return 0;
}
