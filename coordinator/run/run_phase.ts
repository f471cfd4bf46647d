/**
 * What is done in the phases in which workers compute: training with its checkpoints, validation, tasks.
 *
 * @module
 */
import type { Validation } from "../events.ts";
import { aborted, inGeneration } from "./in_generation.ts";
import type { Run, Start } from "./run_context.ts";
import { snapshot, snapshotLocal } from "./parameters.ts";
import { runLocalPhase } from "./local_phase.ts";
import { type PhaseResult, runPhase } from "./phase.ts";
import { measureTexts, phaseChoices } from "./phase_tasks.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type ComputePhase, type EvaluatePhase, stepsOf, type TrainPhase } from "../recipe/recipe_phases.ts";
import { trainedConfig } from "../recipe/switches.ts";
import { validate } from "./validation.ts";

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
