/**
 * From a cluster file and a recipe to what the planner and the simulator are asked.
 *
 * @module
 */
import { basename, dirname, isAbsolute, join, resolve } from "@std/path";
import { type Cluster, parseCluster } from "../coordinator/cost/cluster.ts";
import type { ArrangeRequest } from "../coordinator/planner/schedule_choice.ts";
import { openModel } from "../coordinator/recipe/model_source.ts";
import { parseRecipe, type Recipe } from "../coordinator/recipe/recipe.ts";
import { isCompute } from "../coordinator/recipe/recipe_phases.ts";
import { meshOf } from "../coordinator/run/phase_plan.ts";
import { openTokenizer } from "../coordinator/recipe/run_text.ts";
import { modelsOf } from "../coordinator/recipe/switches.ts";
import { type Codec, CODECS } from "../mesh/tensors/tensor_codec.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { files, modelFolder } from "./model_folder.ts";
import { readTextFile } from "./text_file.ts";
import { CommandError, type Flags, UsageError } from "./verb.ts";

/** Reads a cluster file. */
export async function readCluster(path: string): Promise<Cluster> {
  const text = await readTextFile(path, "cluster file");
  if (/^\s*\[\[phase\]\]/m.test(text)) {
    throw new CommandError(`${path} is a recipe: the cluster file comes first, then the recipe.`);
  }
  return parseCluster(text);
}

/** A recipe's text, where it is no cluster file. */
export async function readRecipeOnly(path: string): Promise<string> {
  const text = await readTextFile(path, "recipe");
  if (/^\s*\[\[worker\]\]/m.test(text)) {
    throw new CommandError(
      `${path} is a cluster file: it comes first, and a recipe or a model's folder after it.`,
    );
  }
  return text;
}

/** What is shown while a cluster is searched. */
export const LOOKING = "looking for the quickest division of the model ...";

/** A step of training a model of which only the folder is given, where no flag says otherwise. */
const usual = { batch: 16, sequence: 512, microbatches: 8 };

/** Help for the flags that only a model's folder takes. */
export const STEP_HELP = `  --batch N, --sequence N, --microbatches N
                   with a model's folder: a step of training (${usual.batch} sequences of ${usual.sequence} tokens in ${usual.microbatches} microbatches)`;

/** Reads a recipe and the model that it means, or a model's folder as one step of training it; no weight is read. */
export async function readModel(
  path: string,
  flags: Flags,
): Promise<{ recipe: Recipe; config: ModelConfig }> {
  const folder = (await Deno.stat(path).catch(() => undefined))?.isDirectory === true;
  if (folder) return await readFolder(path, flags);
  for (const flag of ["batch", "sequence"]) {
    if (flags.text(flag) !== undefined) {
      throw new UsageError(`--${flag} is for a model's folder; a recipe says it itself.`);
    }
  }
  const base = resolve(dirname(path));
  const recipe = parseRecipe(await readRecipeOnly(path), (p) => isAbsolute(p) ? p : join(base, p));
  const { tokenizer } = await openTokenizer(files, recipe);
  const { config } = await openModel(files, recipe, tokenizer);
  return { recipe, config };
}

async function readFolder(path: string, flags: Flags): Promise<{ recipe: Recipe; config: ModelConfig }> {
  const folder = resolve(await modelFolder(path)), file = join(folder, "config.json");
  let json: unknown;
  try {
    json = JSON.parse(await Deno.readTextFile(file));
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${(error as Error).message}`);
  }
  const sizes = Object.entries(usual).map(([name, value]) =>
    `${name} = ${flags.number(name, { min: 1, max: 2 ** 20, integer: true }) ?? value}`
  );
  // A recipe that trains it; its text is never opened.
  const recipe = parseRecipe(
    `name = "plan"
[model]
folder = ${JSON.stringify(folder)}
[data]
train = ["text"]
[[phase]]
kind = "train"
steps = 1
learning_rate = 1e-3
${sizes.join("\n")}`,
    (path) => path,
  );
  return {
    recipe: { ...recipe, name: basename(folder) },
    config: parseConfig(json as Record<string, unknown>),
  };
}

/** One request for each phase of the recipe in which workers compute, changed as the flags say. */
export function requests(
  cluster: Cluster,
  recipe: Recipe,
  config: ModelConfig,
  flags: Flags,
): ArrangeRequest[] {
  const codec = readCodecs(flags.text("codec")) ?? recipe.mesh.codec;
  const stages = flags.number("stages", { min: 1, max: 1_024, integer: true });
  const given = flags.number("microbatches", { min: 1, max: 1_024, integer: true });
  const models = modelsOf(recipe.phases, config);
  return recipe.phases.flatMap((phase, p) => {
    if (!isCompute(phase)) return [];
    const { batch, sequence, microbatches } = phase, mesh = meshOf(recipe, phase, models[p]);
    const wanted = stages ?? mesh.stages;
    return [{
      run: recipe.name,
      generation: 1,
      config: models[p],
      cluster,
      shape: cutBatch(batch, sequence, given ?? microbatches),
      recompute: (phase.kind === "train" && phase.recompute === true) || flags.has("recompute"),
      precision: phase.precision,
      codec,
      ...(wanted === undefined ? {} : { stages: wanted }),
      ...(mesh.expertHosts === 0 ? { hosts: false } : {}),
      schedule: recipe.mesh.schedule,
      visits: recipe.mesh.visits,
    }];
  });
}

/** One codec for all links, or several with commas between, of which each link takes the quickest. */
function readCodecs(text: string | undefined): Codec[] | undefined {
  const names = text?.split(",") as Codec[] | undefined,
    strange = names?.find((each) => !CODECS.includes(each));
  if (strange !== undefined) throw new UsageError(`--codec takes ${CODECS.join(", ")}, not "${strange}".`);
  return names;
}

/** A step's batch in microbatches. */
export function cutBatch(batch: number, sequence: number, microbatches: number) {
  if (batch % microbatches !== 0) {
    throw new UsageError(`${batch} sequences cannot be cut into ${microbatches} equal microbatches.`);
  }
  return { batch: batch / microbatches, sequence, microbatches };
}
