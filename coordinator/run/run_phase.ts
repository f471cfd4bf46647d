/**
 * A phase in which workers compute: plans over those that are there, hands out the model, trains or validates, and ends
 * the generation.
 *
 * @module
 */
import type { TensorSource } from "../../model/source.ts";
import type { SavedState } from "../../model/checkpoint/training_state.ts";
import type { Plan } from "../../mesh/plan.ts";
import type { Runtime } from "../../mesh/runtime.ts";
import { CoordinatorError, type WorkerFailed } from "../errors.ts";
import type { Position, RunEvent, Validation } from "../events.ts";
import { Generation } from "./generation.ts";
import { owners } from "../cost/holdings.ts";
import type { Journal } from "./journal.ts";
import type { Member } from "../member.ts";
import { parameterSource, snapshot, snapshotLocal } from "./parameters.ts";
import { runLocalPhase } from "./local_phase.ts";
import type { Paces } from "../planner/paces.ts";
import { type PhaseResult, runPhase } from "./phase.ts";
import { levelled } from "../planner/levelled.ts";
import { describe, planPhase } from "./phase_plan.ts";
import { measureTexts, phaseChoices, type TaskFiles } from "./phase_tasks.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type ComputePhase, type EvaluatePhase, stepsOf, type TrainPhase } from "../recipe/recipe_phases.ts";
import type { RunText } from "../recipe/run_text.ts";
import { trainedConfig } from "../recipe/switches.ts";
import { validate } from "./validation.ts";

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

/** Asked to stop before there was anything to save. */
export class Interrupted extends CoordinatorError {
  override readonly name = "Interrupted";
}

/**
 * Trains a phase from where `start` says. `before` hears of a validation before the first step, and asks for one by being
 * there.
 */
export async function trainPhase(
  run: Run,
  phase: TrainPhase,
  start: Start,
  before?: (validation: Validation) => void,
): Promise<PhaseResult> {
  const { context: { runtime }, recipe, journal, text, tell } = run;
  const config = trainedConfig(phase, start.tensors.config), index = start.position.phase;
  const tensors = { ...start.tensors, config, read: start.tensors.read.bind(start.tensors) };
  // Each phase begins with its first step's own.
  const load = phase.balancing === "global" && start.position.step > 0 ? start.load : undefined;
  return await inGeneration(
    run,
    phase,
    { ...start, tensors, load },
    async ({ generation, table, end, parted, predicted, took, replicas }) => {
      const seconds: number[] = [];
      const result = await (phase.local ? runLocalPhase : runPhase)({
        clock: runtime,
        config,
        phase,
        table,
        generation,
        data: text.phase(recipe.phases, index),
        from: start.position,
        ...(before === undefined ? {} : { before }),
        ...(load === undefined ? {} : { load }),
        ...(replicas === undefined ? {} : { replicas }),
        signal: end,
        tell: (event) => {
          if (event.event === "step") {
            seconds.push(event.seconds);
            if (seconds.length > WARM && !phase.local) took(event);
          }
          tell(event);
        },
        checkpoint: async (position, load, moments) => {
          const began = runtime.now(), { pipelines, owners } = generation.plan;
          const local = moments && { replicas: pipelines.length, owners, moments };
          const path = await journal.checkpoint({
            config,
            position,
            steps: stepsBefore(recipe, position.phase) + position.step,
            samples: position.step * phase.batch,
            seed: phase.seed,
            ...(load === undefined ? {} : { load }),
            ...(local === undefined ? {} : { local }),
            extras: run.extras,
          }, async (writer) => {
            await snapshot(generation, table, writer);
            if (local !== undefined) await snapshotLocal(generation, table, writer);
          });
          tell({ event: "checkpoint", position, path, seconds: (runtime.now() - began) / 1000 });
        },
      });
      const steady = seconds.slice(WARM);
      if (predicted !== undefined && steady.length > 0) {
        const measured = median(steady);
        tell({ event: "pace", phase: index, steps: steady.length, measured, predicted });
      }
      const why = parted();
      if (!result.finished && why) throw why;
      return result;
    },
  );
}

/** Measures a model on the validation text of a phase; undefined where the recipe asks for none. */
export async function measurePhase(
  run: Run,
  phase: ComputePhase,
  index: number,
  start: Start,
): Promise<Validation | undefined> {
  const { recipe, text } = run, data = text.phase(recipe.phases, index);
  if (data.validation.length === 0) return undefined;
  return await inGeneration(
    run,
    phase,
    { ...start, saved: undefined, load: undefined },
    async ({ generation, end }) =>
      await Promise.race([validate(generation, start.tensors.config, data), aborted(end)]),
  );
}

/** Puts the tasks of a phase to a model. */
export async function measureTasks(
  run: Run,
  phase: EvaluatePhase,
  index: number,
  start: Start,
): Promise<void> {
  if (phase.tasks.length === 0) return;
  const { text, tasks, tell } = run;
  await inGeneration(
    run,
    phase,
    { ...start, saved: undefined, load: undefined },
    async ({ generation, end }) => {
      const files = phase.tasks.map((file) => ({
        file,
        ...phaseChoices(phase, text.tokenizer, tasks.get(file)!, file),
      }));
      await Promise.race([measureTexts(generation, files.flatMap(({ texts }) => texts)), aborted(end)]);
      for (const { file, scores } of files) tell({ event: "tasks", phase: index, file, scores: scores() });
    },
  );
}

/** Steps at the beginning of a phase that do not count for its pace: devices compile and measure. */
const WARM = 3;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Steps of the phases before one. */
export function stepsBefore(recipe: Recipe, index: number): number {
  return recipe.phases.slice(0, index).reduce((sum, phase) => sum + stepsOf(phase), 0);
}

/** A generation that has begun. */
interface Begun {
  readonly generation: Generation;
  readonly table: ReturnType<typeof owners>;
  /** Asks for an end: the user's, or that of a worker that says goodbye. */
  readonly end: AbortSignal;
  /** Predicted seconds of a training step. */
  readonly predicted: number | undefined;
  /** Learns from a step. */
  readonly took: (step: Extract<RunEvent, { event: "step" }>) => void;
  /** The worker that said goodbye, if one did. */
  readonly parted: () => WorkerFailed | undefined;
  /** Where local training goes on: what {@linkcode PhaseOptions} says. */
  readonly replicas: readonly number[] | undefined;
}

/** Plans, hands out, lets `work` use it, and ends the generation whatever happens. */
async function inGeneration<T>(
  run: Run,
  phase: ComputePhase,
  start: Start,
  work: (begun: Begun) => Promise<T>,
): Promise<T> {
  const { context, recipe, journal, tell } = run;
  const { runtime, signal, paces } = context;
  const members = context.members();
  const assumed = new Map(
    levelled(members.map((member) => ({ ...member, shown: paces.of(member) })))
      .map(({ id, profile }) => [id, profile.flops / (profile.lent?.share ?? 1)]),
  );
  const byId = new Map(members.map((member) => [member.id, member]));
  const { config } = start.tensors;
  const number = context.nextGeneration(await journal.generation());
  const planned = planPhase(recipe, phase, config, members, number, paces);
  await journal.setGeneration(number);
  tell(describe(planned, members, config, journal.folder, recipe.name));
  const replicas = goesOn(phase, start, planned.plan, tell);
  const generation = new Generation(
    planned.plan,
    members,
    parameterSource(start.tensors, start.saved, replicas !== undefined),
    runtime,
  );
  const table = owners(config, planned.plan);
  let reason = "the run was stopped";
  // A worker that says goodbye is asked for what it holds before it goes.
  const parting = new AbortController();
  let parted: WorkerFailed | undefined;
  generation.leaving.then((error) => {
    parted = error;
    parting.abort();
  });
  const end = AbortSignal.any([signal, parting.signal]);
  try {
    const begun = generation.begin(
      start.saved !== undefined,
      (stage) => tell({ event: "barrier", stage, generation: number }),
      start.load,
    );
    await Promise.race([begun, aborted(end)]);
    const result = await work({
      generation,
      table,
      end,
      predicted: planned.seconds,
      took: ({ seconds, workers }) => {
        for (const { worker, busy, links = [] } of workers) {
          for (const link of links) paces.learnLink(worker, link.peer, link);
          const expected = planned.busy.get(worker), member = byId.get(worker);
          if (expected === undefined || member === undefined) continue;
          paces.learn(member, assumed.get(worker)!, expected, busy * seconds);
        }
      },
      parted: () => parted,
      replicas,
    });
    if (!signal.aborted) reason = "the phase is finished";
    return result;
  } catch (error) {
    const shown = error instanceof Interrupted && parted ? parted : error;
    reason = shown instanceof Error ? shown.message : String(shown);
    throw shown;
  } finally {
    generation.end(reason);
  }
}

/**
 * Whether a phase of local training goes on with what its replicas had: then each one's steps since its moments began. With
 * another number of replicas the outer momentum begins anew, which is told.
 */
function goesOn(
  phase: ComputePhase,
  { saved, position }: Start,
  { pipelines, owners }: Plan,
  tell: (event: RunEvent) => void,
): readonly number[] | undefined {
  const local = saved?.state.local;
  if (phase.kind !== "train" || !phase.local || position.step === 0 || local === undefined) return undefined;
  if (local.replicas === pipelines.length && local.owners.join() === owners.join()) return local.moments;
  tell({ event: "replicas", saved: local.replicas, now: pipelines.length });
  return undefined;
}

/** Rejects once the signal asks for an end. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(new Interrupted("Stopped as asked before the first step."));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
