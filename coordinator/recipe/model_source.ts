/**
 * Where a run's first weights come from.
 *
 * @module
 */
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { finiteOnly, type TensorSource } from "../../model/source.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import type { Storage } from "../../mesh/runtime.ts";
import type { Recipe } from "./recipe.ts";

/**
 * Opens the recipe's model: a Hugging Face folder, or a fresh one whose vocabulary is the tokenizer's unless it says
 * otherwise. Nothing is read but headers; weights that are not finite are refused when they are.
 */
export async function openModel(
  storage: Storage,
  recipe: Recipe,
  tokenizer: Tokenizer,
): Promise<TensorSource> {
  const { model } = recipe;
  if (model.kind === "folder") return finiteOnly(await openCheckpoint(storage, model.folder));
  return freshModel(parseConfig({ vocab_size: tokenizer.vocabSize, ...model.config }), model.seed);
}
