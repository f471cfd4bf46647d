/**
 * A run from its recipe to its last checkpoint: opens text, model and folder, goes through the phases, and tells what
 * happens. A switch (grow, upcycle) is nothing but a model that is read through another, so a run that was killed goes on
 * from the checkpoint before it. Everything outside is handed in, so that a whole mesh runs in one process.
 *
 * @module
 */
import { historyFiles } from "../../model/checkpoint/provenance.ts";
import { isKnown } from "../errors.ts";
import { estimate } from "./estimate.ts";
import type { Outcome, RunEvent } from "../events.ts";
import { Journal, type Resumable } from "./journal.ts";
import { openModel } from "../recipe/model_source.ts";
import { readPhaseTasks } from "./phase_tasks.ts";
import { parseRecipe } from "../recipe/recipe.ts";
import { isCompute } from "../recipe/recipe_phases.ts";
import { checkResume } from "../recipe/recipe_resume.ts";
import { RunRecord } from "./run_record.ts";
import { goThroughPhases } from "./phases.ts";
import { preparePhase } from "./prepare_phase.ts";
import type { RunContext, Start } from "./run_context.ts";
import { openText } from "../recipe/open_text.ts";
import { modelsOf } from "../recipe/switches.ts";

/** What to run. */
export interface RunRequest {
  /** The recipe's TOML, and how its paths become absolute ones. */
  readonly recipe: string;
  readonly resolve: (path: string) => string;
  /** Folder of all runs; this one's is named after the recipe. */
  readonly runs: string;
  /** Go on from the newest checkpoint of a run that was begun before. */
  readonly resume: boolean;
  /** Shown when the run stops before its end. */
  readonly resumeCommand: string;
}

/**
 * Runs a recipe. What its user can put right before anything is trained is thrown (RecipeError, PlanInfeasible,
 * JournalError, the model's own errors); what ends a run under way becomes the event "stopped" with the last checkpoint
 * and the command that resumes it.
 */
export async function run(request: RunRequest, context: RunContext): Promise<Outcome> {
  const { runtime } = context, { storage } = runtime;
  const recipe = parseRecipe(request.recipe, request.resolve);
  const folder = `${request.runs}/${recipe.name}`;
  let journal = request.resume ? await Journal.open(storage, folder) : undefined;
  const begun = journal && parseRecipe(journal.recipe, request.resolve);
  if (begun) checkResume(begun, recipe);
  await preparePhase(recipe, context);
  const text = await openText(runtime, recipe);
  const fresh = await openModel(storage, recipe, text.tokenizer);
  text.check(fresh.config);
  const models = modelsOf(recipe.phases, fresh.config);
  recipe.phases.forEach((phase, p) => {
    if (isCompute(phase)) text.phase(recipe.phases, p); // a text too short for a phase is told now
  });
  const tasks = await readPhaseTasks(storage, recipe, text.tokenizer);
  const epochs = text.epochs(recipe);
  const resumable: Resumable | undefined = await journal?.resumable();
  if (begun && resumable) checkResume(begun, recipe, resumable.position.phase);
  const start: Start = resumable
    ? { ...resumable, tensors: resumable.checkpoint }
    : { tensors: fresh, saved: undefined, position: { phase: 0, step: 0, committed: 0, moments: 0 } };
  // A plan that cannot be, or a disk that is too small, is told before a folder is made for the run.
  const estimated = estimate({
    recipe,
    models,
    members: context.members(),
    paces: context.paces,
    from: start.position,
    text: epochs,
    free: await storage.free?.(request.runs),
  });
  journal ??= await Journal.begin(storage, folder, request.recipe);
  const record = new RunRecord(runtime, journal, recipe);
  const tell = (event: RunEvent) => {
    record.add(event);
    context.tell(event);
  };
  tell(estimated);
  if (resumable) tell({ event: "resumed", from: resumable.path, position: resumable.position });
  const history = recipe.model.kind === "folder" ? await historyFiles(storage, recipe.model.folder) : [];
  const extras = new Map([...text.files, ...history]);
  const outcome = await goThroughPhases(
    { context, recipe, journal, text, tasks, extras, tell },
    start,
    request.resumeCommand,
  );
  tell(outcome);
  try {
    await record.end();
  } catch (error) {
    if (!(error instanceof Error) || !isKnown(error)) throw error;
    // How the run ended, and where it can go on, matters more than its lines.
    context.tell({ event: "unrecorded", folder: journal.folder, reason: error.message });
  }
  return outcome;
}
