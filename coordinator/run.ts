/**
 * A run from its recipe to its last checkpoint: opens text, model and folder, plans each phase over the workers that are
 * there, and tells what happens. Everything outside is handed in, so that a whole mesh runs in one process.
 *
 * @module
 */
import type { ModelConfig } from "../model/config.ts";
import { ModelError } from "../model/errors.ts";
import type { TensorSource } from "../model/source.ts";
import { historyFiles } from "../model/provenance.ts";
import type { SavedState } from "../model/training_state.ts";
import type { Runtime } from "../mesh/runtime.ts";
import { CoordinatorError, RecipeError, type WorkerFailed } from "./errors.ts";
import type { HeldBy, Position, RunEvent } from "./events.ts";
import { Generation } from "./generation.ts";
import { owners } from "./holdings.ts";
import { Journal, type Resumable } from "./journal.ts";
import type { Member } from "./member.ts";
import { openModel } from "./model_source.ts";
import { parameterSource, snapshot } from "./parameters.ts";
import { runPhase } from "./phase.ts";
import { makePlan, type Planned } from "./planner.ts";
import { checkResume, parseRecipe, type Recipe, type TrainPhase } from "./recipe.ts";
import { openText, type RunText } from "./run_text.ts";

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

/** In what it runs. */
export interface RunContext {
  readonly runtime: Runtime;
  /** The workers that are there now. */
  readonly members: () => readonly Member[];
  readonly tell: (event: RunEvent) => void;
  /** Asks for a checkpoint and an orderly end. */
  readonly signal: AbortSignal;
  /** A generation's number above `above` that this coordinator never used: workers tell runs apart by it. */
  readonly nextGeneration: (above: number) => number;
}

/** How a run ended: with its last event, which was told as well. */
export type Outcome = Extract<RunEvent, { event: "done" | "stopped" }>;

/** A phase's place to begin: weights, and moments where training has begun. */
interface Start {
  readonly tensors: TensorSource;
  readonly saved: SavedState | undefined;
  readonly position: Position;
}

/** Everything that the phases of one run share. */
interface Run {
  readonly context: RunContext;
  readonly recipe: Recipe;
  readonly journal: Journal;
  readonly text: RunText;
  /** Files that go into every checkpoint: the tokenizer's, and what the first model's folder tells of its history. */
  readonly extras: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  readonly tell: (event: RunEvent) => void;
}

/** Asked to stop before there was anything to save. */
class Interrupted extends CoordinatorError {
  override readonly name = "Interrupted";
}

/**
 * Runs a recipe. What its user can put right before anything is trained is thrown (RecipeError, PlanInfeasible,
 * JournalError, the model's own errors); what ends a run under way becomes the event "stopped" with the last checkpoint
 * and the command that resumes it.
 */
export async function run(request: RunRequest, context: RunContext): Promise<Outcome> {
  const { runtime } = context;
  const recipe = parseRecipe(request.recipe, request.resolve);
  const folder = `${request.runs}/${recipe.name}`;
  const text = await openText(runtime, recipe);
  const fresh = await openModel(runtime.storage, recipe, text.tokenizer);
  text.check(fresh.config);
  for (const phase of recipe.phases) text.phase(phase); // a text too short for a phase is told now
  let resumable: Resumable | undefined;
  let journal: Journal | undefined;
  if (request.resume) {
    journal = await Journal.open(runtime.storage, folder);
    checkResume(parseRecipe(journal.recipe, request.resolve), recipe);
    resumable = await journal.resumable();
  }
  const start: Start = resumable
    ? { ...resumable, tensors: resumable.checkpoint }
    : { tensors: fresh, saved: undefined, position: { phase: 0, step: 0, committed: 0 } };
  // A plan that cannot be is told before a folder is made for the run.
  const first = recipe.phases[Math.min(start.position.phase, recipe.phases.length - 1)];
  plan(recipe, first, fresh.config, context.members(), 0);
  journal ??= await Journal.begin(runtime.storage, folder, request.recipe);
  const events = journal;
  const tell = (event: RunEvent) => {
    events.append(event);
    context.tell(event);
  };
  if (resumable) tell({ event: "resumed", from: resumable.path, position: resumable.position });
  const history = recipe.model.kind === "folder"
    ? await historyFiles(runtime.storage, recipe.model.folder)
    : [];
  const extras = new Map([...text.files, ...history]);
  const outcome = await phases(
    { context, recipe, journal, text, extras, tell },
    start,
    request.resumeCommand,
  );
  tell(outcome);
  await journal.settled();
  return outcome;
}

async function phases(run: Run, start: Start, resumeCommand: string): Promise<Outcome> {
  const { context, recipe, journal, tell } = run;
  const began = context.runtime.now();
  let { position } = start, from = start;
  try {
    for (let p = position.phase; p < recipe.phases.length; p++) {
      const phase = recipe.phases[p];
      if (position.step >= phase.steps) {
        position = { ...position, phase: p + 1, step: 0 };
        continue;
      }
      const { position: reached, finished } = await onePhase(run, phase, from);
      position = reached;
      if (!finished) {
        return stopped(
          "asked",
          "Stopped",
          `Stopped as asked after step ${position.step}.`,
          journal,
          resumeCommand,
        );
      }
      const next = await journal.resumable();
      position = { ...position, phase: p + 1, step: 0 };
      from = { tensors: next!.checkpoint, saved: next!.saved, position };
    }
    if (journal.latest === undefined) {
      throw new RecipeError("There is nothing to do: every phase has its steps.");
    }
    const seconds = (context.runtime.now() - began) / 1000;
    return { event: "done", position, path: journal.latest, seconds };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error instanceof Interrupted) {
      return stopped("asked", error.name, error.message, journal, resumeCommand);
    }
    if (!isKnown(error)) tell({ event: "bug", stack: error.stack ?? String(error) });
    return stopped("failed", error.name, error.message, journal, resumeCommand);
  }
}

/** Plans, hands out, trains and ends one generation. */
async function onePhase(run: Run, phase: TrainPhase, start: Start) {
  const { context, recipe, journal, text, tell } = run;
  const { runtime, signal } = context;
  const members = context.members();
  const { config } = start.tensors;
  const number = context.nextGeneration(await journal.generation());
  const planned = plan(recipe, phase, config, members, number);
  await journal.setGeneration(number);
  tell(describe(planned, members, config, journal.folder, recipe.name));
  const generation = new Generation(
    planned.plan,
    members,
    parameterSource(start.tensors, start.saved),
    runtime,
  );
  const table = owners(config, planned.plan.stages);
  let reason = "the run was stopped";
  // A worker that says goodbye is asked for what it holds before it goes.
  const parting = new AbortController();
  let parted: WorkerFailed | undefined;
  generation.leaving.then((error) => {
    parted = error;
    parting.abort();
  });
  const end = AbortSignal.any([signal, parting.signal]);
  try {
    const begun = generation.begin(
      start.saved !== undefined,
      (stage) => tell({ event: "barrier", stage, generation: number }),
    );
    await Promise.race([begun, aborted(end)]);
    const result = await runPhase({
      clock: runtime,
      config,
      phase,
      table,
      generation,
      data: text.phase(phase),
      from: start.position,
      signal: end,
      tell,
      checkpoint: async (position) => {
        const began = runtime.now();
        const before = recipe.phases.slice(0, position.phase).reduce((sum, p) => sum + p.steps, 0);
        const path = await journal.checkpoint({
          config,
          position,
          steps: before + position.step,
          samples: position.step * phase.batch,
          seed: phase.seed,
          extras: run.extras,
        }, (writer) => snapshot(generation, table, writer));
        tell({ event: "checkpoint", position, path, seconds: (runtime.now() - began) / 1000 });
      },
    });
    reason = result.finished ? "the phase is finished" : reason;
    if (!result.finished && parted) throw parted;
    return result;
  } catch (error) {
    const shown = error instanceof Interrupted && parted ? parted : error;
    reason = shown instanceof Error ? shown.message : String(shown);
    throw shown;
  } finally {
    generation.end(reason);
  }
}

function plan(
  recipe: Recipe,
  phase: TrainPhase,
  config: ModelConfig,
  members: readonly Member[],
  generation: number,
): Planned {
  return makePlan({
    run: recipe.name,
    generation,
    config,
    workers: members,
    shape: {
      batch: phase.batch / phase.microbatches,
      sequence: phase.sequence,
      microbatches: phase.microbatches,
    },
    recompute: phase.recompute,
    stages: recipe.mesh.stages,
    expertHosts: recipe.mesh.expert_hosts,
  });
}

/** Rejects once the signal asks for an end. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(new Interrupted("Stopped as asked before the first step."));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
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

/** A plan as the event that tells of it. */
export function describe(
  planned: Planned,
  members: readonly { readonly id: string; readonly profile: { readonly deviceName: string } }[],
  config: ModelConfig,
  folder: string,
  run: string,
): Extract<RunEvent, { event: "plan" }> {
  const workers = planned.holdings.map((holding): HeldBy => ({
    worker: holding.worker,
    device: members.find((member) => member.id === holding.worker)!.profile.deviceName,
    ...(holding.stage
      ? {
        layers: {
          from: holding.stage.from,
          to: holding.stage.to,
          embedding: holding.stage.embedding,
          head: holding.stage.head,
        },
      }
      : {}),
    experts: [...holding.experts].map(([layer, experts]) => ({ layer, experts })),
    parameters: holding.parameters,
    bytes: holding.bytes,
  }));
  return {
    event: "plan",
    run,
    folder,
    generation: planned.plan.generation,
    parameters: owners(config, planned.plan.stages)
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    workers,
    idle: planned.idle,
    shape: planned.plan.shape,
    recompute: planned.plan.recompute,
  };
}

/** Errors with a stable name that their user can act on; anything else is a bug of this program. */
export function isKnown(error: Error): boolean {
  return error instanceof CoordinatorError || error instanceof ModelError || isSystemError(error);
}

/** What the operating system says: a full disk, a missing right. */
function isSystemError(error: Error): boolean {
  return typeof (error as { code?: unknown }).code === "string";
}
