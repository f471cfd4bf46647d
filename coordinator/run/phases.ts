/**
 * From phase to phase: each begins with the weights that the one before left. Switches (grow, upcycle) change how the model
 * is read and are held against the validation loss on both sides of them.
 *
 * @module
 */
import { sameLoss } from "../../model/growth/change.ts";
import { pieces } from "../../model/source.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { Interrupted, isKnown, RecipeError, SwitchError } from "../errors.ts";
import type { Outcome, Validation } from "../events.ts";
import { type ComputePhase, isCompute, isSwitch, type SwitchPhase } from "../recipe/recipe_phases.ts";
import { applySwitch, sizesOf } from "../recipe/switches.ts";
import { windowsOf } from "./estimate.ts";
import type { Journal } from "./journal.ts";
import type { Run, Start } from "./run_context.ts";
import { measurePhase, measureTasks, stepsBefore, trainPhase } from "./run_phase.ts";

/** A switch whose loss behind it is not known yet. */
interface Pending {
  readonly phase: number;
  readonly kind: SwitchPhase["kind"];
  readonly exact: boolean;
  readonly lines: readonly string[];
  readonly parameters: { readonly before: number; readonly after: number; readonly active: number };
  readonly before: Validation | undefined;
}

/**
 * Goes through a recipe's phases from where `start` says. What ends the run before its end is not thrown but told in the
 * outcome, with `resumeCommand` where there is a checkpoint to go on from.
 */
export async function goThroughPhases(run: Run, start: Start, resumeCommand: string): Promise<Outcome> {
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
  if (before?.nll == null || after?.nll == null || sameLoss(before.nll, after.nll)) return;
  throw new SwitchError(
    `This ${kind} keeps the function, yet the validation loss went from ${before.nll.toFixed(6)} to ` +
      `${after.nll.toFixed(6)}. Either a device computes wrongly (volary doctor on each worker) or this ` +
      "is a fault of the program; please report it.",
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
