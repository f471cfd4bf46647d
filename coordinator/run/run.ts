/**
 * A run from its recipe to its last checkpoint: opens text, model and folder, goes through the phases, and tells what
 * happens. A switch (grow, upcycle) is nothing but a model that is read through another, so a run that was killed goes on
 * from the checkpoint before it. Everything outside is handed in, so that a whole mesh runs in one process.
 *
 * @module
 */
import { isAbsolute } from "@std/path";
import { ModelError } from "../../model/errors.ts";
import { folderOf, joinPath, readText } from "../../model/files.ts";
import { historyFiles } from "../../model/checkpoint/provenance.ts";
import { pieces } from "../../model/source.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { CoordinatorError, RecipeError, SwitchError } from "../errors.ts";
import { estimate, windowsOf } from "./estimate.ts";
import type { RunEvent, Validation } from "../events.ts";
import { Journal, type Resumable } from "./journal.ts";
import { openModel } from "../recipe/model_source.ts";
import { pause } from "../pause.ts";
import { readPhaseTasks } from "./phase_tasks.ts";
import { parseRecipe, type Recipe } from "../recipe/recipe.ts";
import { type ComputePhase, isCompute, isSwitch, type SwitchPhase } from "../recipe/recipe_phases.ts";
import { checkResume } from "../recipe/recipe_resume.ts";
import { RunRecord } from "./run_record.ts";
import {
  Interrupted,
  measurePhase,
  measureTasks,
  type Run,
  type RunContext,
  type Start,
  stepsBefore,
  trainPhase,
} from "./run_phase.ts";
import { number } from "../amounts.ts";
import { openText } from "../recipe/run_text.ts";
import { applySwitch, modelsOf, sizesOf } from "../recipe/switches.ts";

export type { RunContext } from "./run_phase.ts";

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

/** How a run ended: with its last event, which was told as well. */
export type Outcome = Extract<RunEvent, { event: "done" | "stopped" }>;

/** Loss that an exact switch may gain or lose by rounding, relative to the loss (or to 1 nat, if that is more). */
const roundingOfLoss = 1e-4;

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
  await prepare(recipe, context);
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
  const outcome = await phases(
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

/**
 * Makes the shards of a recipe that begins with raw files, or finds them made. A preparation that was killed goes on from its
 * own journal.
 */
async function prepare({ phases: [first], data }: Recipe, context: RunContext): Promise<void> {
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

/** A switch whose loss behind it is not known yet. */
interface Pending {
  readonly phase: number;
  readonly kind: SwitchPhase["kind"];
  readonly exact: boolean;
  readonly lines: readonly string[];
  readonly parameters: { readonly before: number; readonly after: number; readonly active: number };
  readonly before: Validation | undefined;
}

async function phases(run: Run, start: Start, resumeCommand: string): Promise<Outcome> {
  const { context, recipe, journal, tell } = run;
  const began = context.runtime.now();
  let from = start;
  let pending: Pending | undefined;
  /** What the weights as they are now were last seen to lose, and on which windows. */
  let known: { readonly windows: string; readonly loss: Validation } | undefined;
  /** Weights that are in no checkpoint: a switch was the last that happened. */
  let unsaved = false;
  /** Measures the weights on the windows of a phase, unless it is known already. */
  const measured = async (index: number) => {
    const phase = recipe.phases[index] as ComputePhase, windows = windowsOf(phase);
    if (known?.windows !== windows) {
      const loss = await measurePhase(run, phase, index, from);
      known = loss && { windows, loss };
    }
    return known?.loss;
  };
  const settle = (after: Validation | null) => {
    if (pending === undefined) return;
    const { before = null, ...told } = pending;
    pending = undefined;
    tell({ event: "switch", ...told, before, after });
    if (told.exact) refuseChangedLoss(told.kind, before, after);
  };
  try {
    for (let p = from.position.phase; p < recipe.phases.length; p++) {
      const phase = recipe.phases[p];
      if (from.position.phase !== p) from = { ...from, position: { ...from.position, phase: p, step: 0 } };
      const { position } = from;
      if (phase.kind === "train") {
        if (position.step >= phase.steps) { // killed right behind it, perhaps before it was validated
          const loss = await measured(p);
          if (loss) tell({ event: "evaluation", phase: p, step: phase.steps, ...loss });
          continue;
        }
        const result = await trainPhase(run, phase, from, pending && settle);
        settle(null); // no validation was asked for
        if (!result.finished) {
          const reason = `Stopped as asked after step ${result.position.step}.`;
          return stopped("asked", "Stopped", reason, journal, resumeCommand);
        }
        known = result.validation && { windows: windowsOf(phase), loss: result.validation };
        unsaved = false;
        const next = await journal.resumable();
        from = { tensors: next!.checkpoint, saved: next!.saved, position: result.position };
      } else if (phase.kind === "evaluate") {
        const loss = await measured(p);
        settle(loss ?? null);
        if (loss) tell({ event: "evaluation", phase: p, step: 0, ...loss });
        await measureTasks(run, phase, p, from);
      } else if (isSwitch(phase)) {
        const next = recipe.phases.findIndex((each, q) => q > p && isCompute(each));
        // A switch right behind another is measured by itself, on what will be measured next.
        const before = next < 0 ? known?.loss : await measured(next);
        settle(before ?? null);
        const switched = applySwitch(phase, from.tensors);
        pending = {
          phase: p,
          kind: phase.kind,
          exact: switched.exact,
          lines: switched.lines,
          parameters: {
            before: sizesOf(from.tensors.config).parameters,
            after: sizesOf(switched.model.config).parameters,
            active: sizesOf(switched.model.config).active,
          },
          before,
        };
        from = { tensors: switched.model, saved: undefined, position: { ...position, moments: 0 } };
        known = undefined;
        unsaved = true;
      }
    }
    settle(null);
    if (unsaved) await saveSwitched(run, from);
    if (journal.latest === undefined) {
      throw new RecipeError("There is nothing to keep: no phase trains or changes the model.");
    }
    const seconds = (context.runtime.now() - began) / 1000;
    return { event: "done", position: from.position, path: journal.latest, seconds };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error instanceof Interrupted) {
      return stopped("asked", error.name, error.message, journal, resumeCommand);
    }
    if (!isKnown(error)) tell({ event: "bug", stack: error.stack ?? String(error) });
    return stopped("failed", error.name, error.message, journal, resumeCommand);
  }
}

/** Throws a {@linkcode SwitchError} where a switch that keeps the function did not keep the loss. */
function refuseChangedLoss(kind: string, before: Validation | null, after: Validation | null): void {
  if (before?.nll == null || after?.nll == null) return;
  if (Math.abs(after.nll - before.nll) <= roundingOfLoss * Math.max(1, before.nll)) return;
  throw new SwitchError(
    `This ${kind} keeps the function, yet the validation loss went from ${before.nll.toFixed(6)} to ` +
      `${
        after.nll.toFixed(6)
      }. Either a device computes wrongly (volary doctor on each worker) or this is a fault of ` +
      `the program; please report it.`,
  );
}

/** Writes the model behind a switch that no training followed. */
async function saveSwitched(run: Run, { tensors, position }: Start): Promise<void> {
  const { journal, recipe, extras, tell, context: { runtime, signal } } = run, { config } = tensors;
  const began = runtime.now(), end = { ...position, phase: recipe.phases.length, step: 0 };
  const info = {
    config,
    position: end,
    steps: stepsBefore(recipe, recipe.phases.length),
    switched: recipe.phases.length,
    samples: 0,
    seed: 0,
    extras,
  };
  const path = await journal.checkpoint(info, async (writer) => {
    for (const { name, shape } of parameterTable(config)) {
      for (const [start, length] of pieces(elements(shape))) {
        if (signal.aborted) throw new Interrupted("Stopped as asked while the last model was written.");
        await writer.write("weight", name, start, await tensors.read(name, start, length));
        for (const moment of ["m", "v"] as const) {
          await writer.write(moment, name, start, new Float32Array(length));
        }
      }
    }
  });
  tell({ event: "checkpoint", position: end, path, seconds: (runtime.now() - began) / 1000 });
}

function stopped(
  why: "asked" | "failed",
  name: string,
  reason: string,
  journal: Journal,
  resumeCommand: string,
): Outcome {
  const path = journal.latest ?? null;
  return { event: "stopped", why, name, reason, path, resume: path === null ? null : resumeCommand };
}

/** Errors with a stable name that their user can act on; anything else is a bug of this program. */
export function isKnown(error: Error): boolean {
  return error instanceof CoordinatorError || error instanceof ModelError || isSystemError(error);
}

/** What the operating system says: a full disk, a missing right. */
function isSystemError(error: Error): boolean {
  return typeof (error as { code?: unknown }).code === "string";
}
