/**
 * Tasks of `volary eval`: put to a model, shown as a table or as JSON.
 *
 * @module
 */
import { basename } from "@std/path";
import { table } from "../coordinator/amounts.ts";
import { scoreNames } from "../coordinator/report/report.ts";
import type { Device } from "../kernels/mod.ts";
import { LoadedModel } from "../model/layers/local_model.ts";
import type { TensorSource } from "../model/source.ts";
import type { Score } from "../model/text/task_choices.ts";
import { scoreTasks, type TaskScores } from "../model/text/task_scores.ts";
import { type NumberedTask, readTasks } from "../model/text/tasks.ts";
import { checkVocabulary } from "../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { files } from "./model_folder.ts";
import type { Screen } from "./screen.ts";

/** A file of tasks and what came of it. */
export interface FileScores {
  readonly file: string;
  readonly scores: readonly TaskScores[];
}

/** Reads all files before anything is computed. @throws {TaskError} */
export async function readTaskFiles(
  paths: readonly string[],
): Promise<{ file: string; tasks: NumberedTask[] }[]> {
  return await Promise.all(paths.map(async (file) => ({ file, tasks: await readTasks(files, file) })));
}

/** Loads the model, puts every task to it and lets it go. */
export async function evaluateTasks(
  device: Device,
  source: TensorSource,
  tokenizer: Tokenizer,
  tasks: readonly { readonly file: string; readonly tasks: readonly NumberedTask[] }[],
  screen: Screen,
): Promise<FileScores[]> {
  checkVocabulary(tokenizer, source.config);
  screen.replace("loading");
  const model = await LoadedModel.load(device, source);
  try {
    const all: FileScores[] = [];
    for (const { file, tasks: numbered } of tasks) {
      const progress = (done: number, all: number) => screen.replace(`${file}: ${done} of ${all} tasks`);
      all.push({ file, scores: await scoreTasks(model, tokenizer, numbered, progress) });
    }
    return all;
  } finally {
    model.release();
  }
}

/** One object for each kind of each file; the keys are part of the program's interface. */
export function tasksJson({ file, scores }: FileScores) {
  const score = ({ right, accuracy, standardError, chance, aboveChance }: Score) => ({
    right,
    accuracy,
    standard_error: standardError,
    chance,
    above_chance: aboveChance,
  });
  return scores.map((one) => ({
    file,
    kind: one.kind,
    tasks: one.tasks,
    ...(one.kind === "choose"
      ? Object.fromEntries(scoreNames.map(([key]) => [key, score(one[key])]))
      : { match: score(one.match) }),
  }));
}

/** The same for people. */
export function tasksText(all: readonly FileScores[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = all.flatMap(({ file, scores }) =>
    scores.flatMap((one) => {
      const row = (by: string, { right, accuracy, standardError, chance, aboveChance }: Score) => [
        basename(file),
        by,
        `${Number(right.toFixed(1))} of ${one.tasks}`,
        percent(accuracy),
        `+- ${percent(standardError)}`,
        percent(chance),
        `${aboveChance >= 0 ? "+" : ""}${aboveChance.toFixed(1)}`,
      ];
      return one.kind === "choose"
        ? scoreNames.map(([key, by]) => row(`choose, ${by}`, one[key]))
        : [row("generate", one.match)];
    })
  );
  const head = ["tasks", "", "right", "accuracy", "standard error", "chance", "standard errors above chance"];
  return table([head, ...rows]).join("\n");
}
