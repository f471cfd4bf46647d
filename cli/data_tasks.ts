/**
 * `volary data tasks`: tasks out of dictionaries.
 *
 * @module
 */
import { cedictEntries, wordnetEntries } from "../data/dictionaries.ts";
import { choiceTasks, definition, translation } from "../data/task_builders.ts";
import { folderOf, writeAtomic } from "../model/files.ts";
import { files } from "./model_folder.ts";
import { printJson, readFlags, say, UsageError } from "./verb.ts";

/** Runs `data tasks`. */
export async function dictionaryTasks(args: readonly string[]): Promise<number> {
  const flags = readFlags(args, {
    boolean: ["json"],
    string: ["output", "count", "candidates", "seed"],
    positional: ["cedict|wordnet"],
  });
  const [name] = flags.positional, output = flags.text("output");
  if (output === undefined) throw new UsageError("--output FILE is missing.");
  if (name !== "cedict" && name !== "wordnet") {
    throw new UsageError(`There is no dictionary "${name}"; there are cedict and wordnet.`);
  }
  const count = flags.number("count", { min: 1, max: 1_000_000, integer: true }) ?? Infinity;
  const candidates = flags.number("candidates", { min: 2, max: 256, integer: true }) ?? 4;
  const seed = flags.number("seed", { min: 0, max: 0xffff_ffff, integer: true }) ?? 1;
  const options = { count, candidates, seed };
  const tasks = name === "cedict"
    ? choiceTasks(cedictEntries(), translation, options)
    : choiceTasks(await wordnetEntries(files), definition, options);
  const lines = tasks.map((task) => JSON.stringify(task) + "\n").join("");
  await files.makeFolder(folderOf(output));
  await writeAtomic(files, output, new TextEncoder().encode(lines));
  if (flags.has("json")) printJson({ event: "tasks", file: output, tasks: tasks.length });
  say(
    `${output}: ${tasks.length} tasks of ${candidates} candidates${
      count < Infinity && tasks.length < count ? ` (no more entries are held out)` : ""
    }. volary eval MODEL --tasks ${output}`,
  );
  return 0;
}
