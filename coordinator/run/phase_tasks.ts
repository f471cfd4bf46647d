/**
 * Tasks of evaluate phases, over the mesh: candidates are the sequences of rounds without gradients, and the stage with the
 * head reports the loss of each sequence. Only choose tasks can be put so; a text that the model writes itself needs a
 * device that holds it (`volary eval`).
 *
 * @module
 */
import { NO_LABEL } from "../../model/text/data_order.ts";
import type { Storage } from "../../mesh/runtime.ts";
import { type CandidateText, type Choices, choicesOf } from "../../model/text/task_choices.ts";
import { type ChooseTask, type Numbered, readTasks, TaskError } from "../../model/text/tasks.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import { WorkerFailed } from "../errors.ts";
import type { Batch } from "../batch.ts";
import type { Generation } from "./generation.ts";
import type { Recipe } from "../recipe/recipe.ts";
import type { EvaluatePhase } from "../recipe/recipe_phases.ts";

/** Files of tasks by path. */
export type TaskFiles = ReadonlyMap<string, readonly Numbered<ChooseTask>[]>;

/**
 * Reads all tasks of a recipe.
 *
 * @throws {TaskError} for a file that holds none, a task that is not of the kind "choose", or one that is too long.
 */
export async function readPhaseTasks(
  storage: Storage,
  { phases }: Recipe,
  tokenizer: Tokenizer,
): Promise<TaskFiles> {
  const files = new Map<string, Numbered<ChooseTask>[]>();
  for (const phase of phases) {
    if (phase.kind !== "evaluate") continue;
    for (const path of phase.tasks) {
      const tasks = (await readTasks(storage, path)).map(({ line, task }) => {
        if (task.kind === "choose") return { line, task };
        throw new TaskError(
          `${path}:${line} is a ${task.kind} task, and an evaluate phase puts choose tasks only: leave it out, and put ` +
            `it to the finished model (volary eval --tasks).`,
        );
      });
      files.set(path, tasks);
      phaseChoices(phase, tokenizer, tasks, path); // a task too long is told now
    }
  }
  return files;
}

/** Tasks as sequences of a phase. Throws a {@linkcode TaskError}. */
export function phaseChoices(
  { sequence }: EvaluatePhase,
  tokenizer: Tokenizer,
  tasks: readonly Numbered<ChooseTask>[],
  path: string,
): Choices {
  return choicesOf(tokenizer, tasks, {
    tokens: sequence,
    because: `(${path}) the phase's sequence is`,
  });
}

/** Measures texts over a generation that has begun; its rounds are counted from 0, so once for each. */
export async function measureTexts(generation: Generation, texts: readonly CandidateText[]): Promise<void> {
  const { batch, sequence, microbatches } = generation.plan.shape, together = batch * microbatches;
  const rounds = Math.ceil(texts.length / together);
  const textsOf = (round: number) => texts.slice(round * together, (round + 1) * together);
  const open = (round: number) => {
    if (round < rounds) generation.open(round, "evaluate", batchOf(textsOf(round), together, sequence));
  };
  open(0);
  open(1);
  for (let round = 0; round < rounds; round++) {
    const answers = await generation.collect(round), found = new Set<number>();
    open(round + 2);
    const asked = textsOf(round);
    for (const [worker, { losses }] of answers) {
      for (const { microbatch, sequences } of losses) {
        if (sequences === undefined) continue;
        if (microbatch >= microbatches || found.has(microbatch) || sequences.length !== batch) {
          throw new WorkerFailed(
            worker,
            `broke the protocol: it reports ${sequences.length} sequences of microbatch ${microbatch}, once or more.`,
          );
        }
        found.add(microbatch);
        sequences.forEach((nats, i) => {
          const text = asked[microbatch * batch + i];
          if (text !== undefined) text.nats = nats;
        });
      }
    }
    if (found.size < microbatches) {
      const [worker] = answers.keys();
      throw new WorkerFailed(
        worker,
        `and the others reported the losses of ${found.size} microbatches of ${microbatches}.`,
      );
    }
  }
}

/** One round: each text a sequence of its own, its candidate's tokens the labels that count. */
function batchOf(texts: readonly CandidateText[], together: number, sequence: number): Batch {
  const ids = new Uint32Array(together * sequence),
    labels = new Uint32Array(together * sequence).fill(NO_LABEL);
  let validLabels = 0;
  texts.forEach((text, i) => {
    ids.set(text.ids.subarray(0, -1), i * sequence);
    labels.set(text.ids.subarray(text.from), i * sequence + text.from - 1);
    validLabels += text.ids.length - text.from;
  });
  return { ids: new Uint8Array(ids.buffer), labels: new Uint8Array(labels.buffer), validLabels };
}
