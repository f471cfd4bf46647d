/**
 * A recipe's first phase where that makes its data: files to shards, before any model or worker is needed.
 *
 * @module
 */
import { isAbsolute } from "@std/path";
import { folderOf, joinPath, readText } from "../../model/files.ts";
import { number } from "../amounts.ts";
import { Interrupted, RecipeError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { Recipe } from "../recipe/recipe.ts";
import type { RunContext } from "./run_context.ts";

/**
 * Makes the shards of a recipe that begins with raw files, or finds them made. A preparation that was killed goes on from its
 * own journal.
 *
 * @throws {RecipeError} for a description that is missing, or that makes other shards than training would read.
 * @throws {Interrupted} where it is stopped as asked.
 */
export async function preparePhase({ phases: [first], data }: Recipe, context: RunContext): Promise<void> {
  if (first.kind !== "prepare") return;
  const { runtime, tell, signal } = context, { storage } = runtime, path = first.config;
  const text = await readText(storage, path);
  if (text === undefined) {
    throw new RecipeError(`[[phase]] 1 (prepare): there is no description of the data ${path}.`);
  }
  // Loaded where it is needed: libraries for parquet and languages are large.
  const [{ parseConfig }, { prepare }] = await Promise.all([
    import("../../data/config.ts"),
    import("../../data/prepare.ts"),
  ]);
  const config = parseConfig(text, (inner) => isAbsolute(inner) ? inner : joinPath(folderOf(path), inner));
  if (data.shards !== config.output) {
    throw new RecipeError(
      `[[phase]] 1 (prepare): ${path} makes the shards ${config.output}, but training would read ` +
        `${data.shards ?? "text files"}. Set [data] shards to what is made.`,
    );
  }
  let shown = -Infinity;
  const { folder, index, before } = await prepare(config, {
    files: storage,
    signal: stopping(
      signal,
      "Stopped as asked while text was prepared; the same command goes on from there.",
    ),
    pause: () => pause(runtime),
    tell({ stage, done, all }) {
      if (runtime.now() - shown < 5_000) return;
      shown = runtime.now();
      tell({
        event: "prepare",
        text: `preparing text (${stage}): ${Math.floor(100 * done / Math.max(1, all))} %`,
      });
    },
  });
  const tokens = index.domains.reduce((sum, { train }) => sum + train.tokens, 0);
  tell({
    event: "prepare",
    text: `${folder}: ${number(tokens)} tokens of training in ${index.domains.length} ` +
      `${index.domains.length === 1 ? "domain" : "domains"}${before ? ", made before" : ""}`,
  });
}

/** The same signal with a reason for people. */
function stopping(signal: AbortSignal, reason: string): AbortSignal {
  const stop = new AbortController(), abort = () => stop.abort(new Interrupted(reason));
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return stop.signal;
}
