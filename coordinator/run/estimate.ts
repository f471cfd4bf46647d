/**
 * What a recipe will take, before it begins: arithmetic, time, memory and disk of each phase.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import { countParameters } from "../../model/tensors.ts";
import { RecipeError } from "../errors.ts";
import type { PhaseEstimate, RunEvent } from "../events.ts";
import type { Member } from "../member.ts";
import type { Paces } from "../planner/paces.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type ComputePhase, isCompute, isSwitch, type Phase } from "../recipe/recipe_phases.ts";
import { size } from "../amounts.ts";
import { planPhase } from "./phase_plan.ts";
import { layerVisits, stepFlops, validationFlops } from "../cost/work.ts";

/** Bytes of a step's line in metrics.jsonl and the event file, and of a worker's part in it. */
const lineBytes = 800, workerBytes = 120;
/** A weight and two moments, f32; of local training also the outer momentum, and what each further replica keeps. */
const checkpointBytes = 12, outerBytes = 4, replicaBytes = 12;

/** What is left to do of a recipe. */
export interface EstimateRequest {
  readonly recipe: Recipe;
  /** The model's configuration in each phase. */
  readonly models: readonly ModelConfig[];
  readonly members: readonly Pick<Member, "id" | "profile">[];
  /** What steps have shown of them. */
  readonly paces: Pick<Paces, "of" | "link">;
  /** Phases and steps of the next one that are done. */
  readonly from: { readonly phase: number; readonly step: number };
  /** Tokens of all training, and how often that reads the text. */
  readonly text: { readonly tokens: number; readonly epochs: number };
  /** Free bytes where the run's folder lies; undefined where nobody knows. */
  readonly free: number | undefined;
}

/**
 * Estimates what is left. Throws {@linkcode RecipeError} where the disk has no room for it, and PlanInfeasible where a phase
 * fits no plan.
 */
export function estimate(request: EstimateRequest): Extract<RunEvent, { event: "estimate" }> {
  const { recipe, models, from, text, free } = request;
  const phases = recipe.phases.flatMap((phase, index) =>
    index < from.phase || phase.kind === "prepare" ? [] : [one(request, phase, index)]
  );
  // A switch that nothing follows is written as it is.
  const last = recipe.phases[recipe.phases.length - 1];
  const rest = isSwitch(last) ? checkpointBytes * countParameters(models[models.length - 1]).total : 0;
  const disk = phases.reduce((sum, phase) => sum + phase.disk, rest);
  if (free !== undefined && disk > free) {
    throw new RecipeError(
      `The run's checkpoints need about ${size(disk)} of disk, but only ${size(free)} are free where ` +
        `its folder lies (${size(disk - free)} short). Free some space, save less often ` +
        "(checkpoint_every), or keep runs elsewhere.",
    );
  }
  return {
    event: "estimate",
    phases,
    ...text,
    seconds: phases.reduce((sum, phase) => sum + phase.seconds, 0),
    disk,
    free: free ?? null,
  };
}

function one(
  { recipe, models, members, paces, from }: EstimateRequest,
  phase: Phase,
  index: number,
): PhaseEstimate {
  const config = models[index], { total: parameters, active } = countParameters(config);
  const nothing = { steps: 0, tokens: 0, flops: 0, seconds: 0, memory: 0, disk: 0 };
  const known = { phase: index, kind: phase.kind as PhaseEstimate["kind"], parameters, active };
  if (!isCompute(phase)) return { ...known, ...nothing };
  const shape = {
    batch: phase.batch / phase.microbatches,
    sequence: phase.sequence,
    microbatches: phase.microbatches,
  };
  const { holdings, seconds, plan } = planPhase(recipe, phase, config, members, 0, paces);
  const memory = Math.max(...holdings.map(({ bytes }) => bytes));
  if (phase.kind === "evaluate") {
    return { ...known, ...nothing, flops: validationFlops(config, shape) * phase.batches, memory };
  }
  const steps = Math.max(0, phase.steps - (index === from.phase ? from.step : 0));
  const bytes = checkpointBytes +
    (phase.local ? outerBytes + replicaBytes * (plan.pipelines.length - 1) : 0);
  const saves = phase.checkpoint_every === 0 ? Math.min(1, steps) : Math.ceil(steps / phase.checkpoint_every);
  return {
    ...known,
    steps,
    tokens: steps * phase.batch * phase.sequence,
    flops: steps * stepFlops(config, shape, layerVisits(plan)),
    seconds: steps * seconds!,
    memory,
    disk: saves * bytes * parameters + steps * (lineBytes + workerBytes * members.length),
  };
}

/** Validation text that two phases measure on: equal keys mean equal losses for equal models. */
export function windowsOf(phase: ComputePhase): string {
  const windows = phase.kind === "train" ? phase.evaluate_batches * phase.batch : phase.batches * phase.batch;
  return phase.kind === "evaluate" && phase.batches === 0
    ? `${phase.sequence} all`
    : `${phase.sequence} ${windows}`;
}
