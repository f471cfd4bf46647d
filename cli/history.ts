/**
 * Where the model of a folder comes from, as far as anything there tells: its own record, or the run that it is a checkpoint
 * of.
 *
 * @module
 */
import { basename, dirname, resolve } from "@std/path";
import { parseRecipe, type Recipe } from "../coordinator/recipe/recipe.ts";
import type { Provenance } from "../model/checkpoint/card.ts";
import type { Checkpoint } from "../model/checkpoint/checkpoint.ts";
import { joinPath, readText } from "../model/files.ts";
import { readProvenance, statedLicense } from "../model/checkpoint/provenance.ts";
import { openState } from "../model/checkpoint/training_state.ts";
import { files } from "./model_folder.ts";

/** The history of a checkpoint, for the card of what is made from it. */
export async function historyOf(checkpoint: Checkpoint): Promise<Provenance> {
  const { folder } = checkpoint, told = await readProvenance(files, folder);
  // A run's checkpoint carries the record of the model that the run began with.
  const saved = await openState(files, checkpoint);
  const text = (saved?.state.recipe as { text?: unknown } | undefined)?.text;
  if (saved !== undefined && typeof text === "string") {
    const recipe = parseRecipe(text, (path) => path); // for their names only
    return await historyOfRun(folder, recipe, saved.state.step, told);
  }
  if (told !== undefined) return told;
  const name = nameOf(folder), license = await statedLicense(files, folder);
  return {
    name,
    source: name,
    steps: [],
    data: [],
    losses: [],
    ...(license === undefined ? {} : { license }),
  };
}

/** A model's name where its folder tells no other. */
export function nameOf(folder: string): string {
  return basename(resolve(folder));
}

async function historyOfRun(
  folder: string,
  recipe: Recipe,
  steps: number,
  before: Provenance | undefined,
): Promise<Provenance> {
  const source = before?.source ?? (recipe.model.kind === "folder" ? nameOf(recipe.model.folder) : undefined);
  return {
    ...before,
    name: recipe.name,
    ...(source === undefined ? {} : { source }),
    steps: [...before?.steps ?? [], `trained ${steps.toLocaleString("en-US")} steps (recipe ${recipe.name})`],
    data: [...new Set([...before?.data ?? [], ...dataOf(recipe).map((path) => basename(path))])],
    losses: [
      ...before?.losses ?? [],
      ...await lastValidation(dirname(dirname(resolve(folder))), recipe.name),
    ],
  };
}

/** What a recipe trains on: its text files, or its folder of shards. */
function dataOf({ data: { train, shards } }: Recipe): readonly string[] {
  return shards === undefined ? train : [shards];
}

/** The last validation in a run's events. */
async function lastValidation(run: string, name: string): Promise<[string, string][]> {
  const lines = (await readText(files, joinPath(run, "metrics.jsonl")))?.split("\n") ?? [];
  for (const line of lines.reverse()) {
    let event: Record<string, unknown>;
    try {
      event = JSON.parse(line);
    } catch {
      continue; // the last line of a run that was cut off may be incomplete
    }
    const { nll, bitsPerByte } = event;
    if (event.event === "evaluation" && typeof nll === "number" && typeof bitsPerByte === "number") {
      return [[
        `last validation of ${name}`,
        `${nll.toFixed(4)} nats per token, ${bitsPerByte.toFixed(4)} bits per byte`,
      ]];
    }
  }
  return [];
}
