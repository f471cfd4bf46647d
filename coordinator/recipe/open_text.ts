/**
 * A run's text, whatever it comes from.
 *
 * @module
 */
import type { Runtime } from "../../mesh/runtime.ts";
import type { Recipe } from "./recipe.ts";
import { openShards } from "./run_shards.ts";
import { openFiles, type RunText } from "./run_text.ts";

/** Reads the recipe's files or opens its shards. Throws TextError, TokenizerError and ShardsError. */
export async function openText(runtime: Runtime, recipe: Recipe): Promise<RunText> {
  const { shards } = recipe.data;
  return shards === undefined ? await openFiles(runtime, recipe) : await openShards(runtime, recipe, shards);
}
