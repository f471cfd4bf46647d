/**
 * A plan over the workers that are there, handed out for the time of one piece of work: training a phase, or measuring.
 *
 * @module
 */
import type { Plan } from "../../mesh/plan.ts";
import { owners } from "../cost/holdings.ts";
import { Interrupted, type WorkerFailed } from "../errors.ts";
import type { RunEvent } from "../events.ts";
import { levelled } from "../planner/levelled.ts";
import type { ComputePhase } from "../recipe/recipe_phases.ts";
import { Generation } from "./generation.ts";
import { parameterSource } from "./parameters.ts";
import { describe, planPhase } from "./phase_plan.ts";
import type { Run, Start } from "./run_context.ts";

/** A generation that has begun. */
export interface Begun {
  readonly generation: Generation;
  readonly table: ReturnType<typeof owners>;
  /** Asks for an end: the user's, or that of a worker that says goodbye. */
  readonly end: AbortSignal;
  /** Predicted seconds of a training step. */
  readonly predicted: number | undefined;
  /** Learns from a step. */
  readonly took: (step: Extract<RunEvent, { event: "step" }>) => void;
  /** The worker that said goodbye, if one did. */
  readonly parted: () => WorkerFailed | undefined;
  /** Where local training goes on: what {@linkcode PhaseOptions} says. */
  readonly replicas: readonly number[] | undefined;
}

/** Plans, hands out, lets `work` use it, and ends the generation whatever happens. */
export async function inGeneration<T>(
  run: Run,
  phase: ComputePhase,
  start: Start,
  work: (begun: Begun) => Promise<T>,
): Promise<T> {
  const { context, recipe, journal, tell } = run;
  const { runtime, signal, paces } = context;
  const members = context.members();
  const assumed = new Map(
    levelled(members.map((member) => ({ ...member, shown: paces.of(member) })))
      .map(({ id, profile }) => [id, profile.flops / (profile.lent?.share ?? 1)]),
  );
  const byId = new Map(members.map((member) => [member.id, member]));
  const { config } = start.tensors;
  const number = context.nextGeneration(await journal.generation());
  const planned = planPhase(recipe, phase, config, members, number, paces);
  await journal.setGeneration(number);
  tell(describe(planned, members, config, journal.folder, recipe.name));
  const replicas = goesOn(phase, start, planned.plan, tell);
  const generation = new Generation(
    planned.plan,
    members,
    parameterSource(start.tensors, start.saved, replicas !== undefined),
    runtime,
  );
  const table = owners(config, planned.plan);
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
      start.load,
    );
    await Promise.race([begun, aborted(end)]);
    const result = await work({
      generation,
      table,
      end,
      predicted: planned.seconds,
      took: ({ seconds, workers }) => {
        for (const { worker, busy, links = [] } of workers) {
          for (const link of links) paces.learnLink(worker, link.peer, link);
          const expected = planned.busy.get(worker), member = byId.get(worker);
          if (expected === undefined || member === undefined) continue;
          paces.learn(member, assumed.get(worker)!, expected, busy * seconds);
        }
      },
      parted: () => parted,
      replicas,
    });
    if (!signal.aborted) reason = "the phase is finished";
    return result;
  } catch (error) {
    const shown = error instanceof Interrupted && parted ? parted : error;
    reason = shown instanceof Error ? shown.message : String(shown);
    throw shown;
  } finally {
    generation.end(reason);
  }
}

/**
 * Whether a phase of local training goes on with what its replicas had: then each one's steps since its moments began. With
 * another number of replicas the outer momentum begins anew, which is told.
 */
function goesOn(
  phase: ComputePhase,
  { saved, position }: Start,
  { pipelines, owners }: Plan,
  tell: (event: RunEvent) => void,
): readonly number[] | undefined {
  const local = saved?.state.local;
  if (phase.kind !== "train" || !phase.local || position.step === 0 || local === undefined) return undefined;
  if (local.replicas === pipelines.length && local.owners.join() === owners.join()) return local.moments;
  tell({ event: "replicas", saved: local.replicas, now: pipelines.length });
  return undefined;
}

/** Rejects once the signal asks for an end. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(new Interrupted("Stopped as asked before the first step."));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
