/**
 * Recipes on one worker in this process, for benches that train: a run's own folder keeps checkpoints, so that a bench
 * which was stopped goes on where it was.
 *
 * @module
 */
import { join } from "@std/path";
import type { RunEvent } from "../../coordinator/events.ts";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import type { ReportData } from "../../coordinator/report/report_data.ts";
import { writeReport } from "../../coordinator/report/report_files.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { openComputeThread } from "../../worker/compute_client.ts";
import { chinese, english } from "../../demo/corpus.ts";
import { oneThread } from "../harness/adapter.ts";
import { meshInProcess } from "../mesh/in_process.ts";

/** A recipe that came to its end. */
export interface Leg {
  readonly report: ReportData;
  /** The folder of its last checkpoint. */
  readonly model: string;
}

/** The text of all training benches: the demo's, English and Chinese. Answers with the recipe's [data]. */
export async function benchText(folder: string): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  const names: { train: string[]; validation: string[] } = { train: [], validation: [] };
  for (const { language, train, validation } of [await english(), chinese()]) {
    for (const [part, text] of [["train", train], ["validation", validation]] as const) {
      const name = `${language.toLowerCase()}.${part}.txt`;
      await Deno.writeTextFile(join(folder, name), text);
      names[part].push(name);
    }
  }
  return `[data]\ntrain = ${JSON.stringify(names.train)}\nvalidation = ${
    JSON.stringify(names.validation)
  }\ntokenizer = "bytes"\n`;
}

/**
 * Runs a recipe to its end, or goes on with one of that name. Relative paths lie in `folder`, runs in its folder `runs`.
 * `tell` hears of every event.
 */
export async function runLeg(
  folder: string,
  recipe: string,
  tell: (event: RunEvent) => void = () => {},
): Promise<Leg> {
  oneThread();
  const runtime = denoRuntime(), runs = join(folder, "runs");
  const { name } = parseRecipe(recipe, (path) => path), own = join(runs, name);
  const begun = await runtime.storage.size(join(own, "recipe.toml")) !== undefined;
  const last = begun ? await lastEvent(join(own, "metrics.jsonl")) : undefined;
  if (last?.event !== "done") {
    const mesh = await meshInProcess([{
      transport: new MemoryHub(runtime).transport(),
      compute: (exchanger) => openComputeThread({ device: "auto" }, exchanger),
    }]);
    try {
      const outcome = await mesh.coordinator.run({
        recipe,
        resolve: (path) => join(folder, path),
        runs,
        resume: begun,
        resumeCommand: "the same command",
      }, { workers: 1, tell: (event) => event.event === "waiting" || tell(event) });
      if (outcome.event !== "done") throw new Error(`${name}: ${outcome.reason}`);
    } finally {
      await mesh.close();
    }
  }
  const done = await lastEvent(join(own, "metrics.jsonl"));
  if (done?.event !== "done") throw new Error(`${name} did not come to its end`);
  return { report: (await writeReport(runtime.storage, own)).data, model: done.path };
}

async function lastEvent(path: string): Promise<RunEvent | undefined> {
  const lines = (await Deno.readTextFile(path).catch(() => "")).trimEnd().split("\n");
  try {
    return JSON.parse(lines[lines.length - 1]) as RunEvent;
  } catch {
    return undefined; // cut off in the middle of a line: it was not done
  }
}

/** A quiet progress line on stderr: every so many steps and each validation. */
export function progress(name: string, every = 50): (event: RunEvent) => void {
  return (event) => {
    if (event.event === "step" && (event.step % every === 0)) {
      console.error(
        `  ${name}: step ${event.step} of ${event.steps}, loss ${event.loss?.toFixed(3)}, ${
          event.tokensPerSecond.toFixed(0)
        } tokens/s`,
      );
    }
    if (event.event === "evaluation") {
      console.error(`  ${name}: validation after step ${event.step}: ${event.nll?.toFixed(4)}`);
    }
  };
}
