/**
 * What the parts of a run share: the world around it, what was opened for it, and where a phase begins.
 *
 * @module
 */
import type { Runtime } from "../../mesh/runtime.ts";
import type { SavedState } from "../../model/checkpoint/training_state.ts";
import type { TensorSource } from "../../model/source.ts";
import type { Position, RunEvent } from "../events.ts";
import type { Member } from "../member.ts";
import type { Paces } from "../planner/paces.ts";
import type { Recipe } from "../recipe/recipe.ts";
import type { RunText } from "../recipe/run_text.ts";
import type { Journal } from "./journal.ts";
import type { TaskFiles } from "./phase_tasks.ts";

/** In what a run runs. */
export interface RunContext {
  readonly runtime: Runtime;
  /** The workers that are there now. */
  readonly members: () => readonly Member[];
  readonly tell: (event: RunEvent) => void;
  /** Asks for a checkpoint and an orderly end. */
  readonly signal: AbortSignal;
  /** A generation's number above `above` that this coordinator never used: workers tell runs apart by it. */
  readonly nextGeneration: (above: number) => number;
  /** What steps have shown of the workers so far. */
  readonly paces: Paces;
}

/** A phase's place to begin: weights, and moments where training has begun. */
export interface Start {
  readonly tensors: TensorSource;
  readonly saved: SavedState | undefined;
  readonly position: Position;
  /** What experts are balanced over, in the middle of a phase that balances over whole batches. */
  readonly load?: number[][];
}

/** Everything that the phases of one run share. */
export interface Run {
  readonly context: RunContext;
  readonly recipe: Recipe;
  readonly journal: Journal;
  readonly text: RunText;
  /** What evaluate phases ask. */
  readonly tasks: TaskFiles;
  /** Files that go into every checkpoint: the tokenizer's, and what the first model's folder tells of its history. */
  readonly extras: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  readonly tell: (event: RunEvent) => void;
}
