/**
 * The plan of a phase: what the recipe and the phase ask for, put to the planner, and what the run tells of its answer.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import { owners } from "../cost/holdings.ts";
import type { HeldBy, RunEvent } from "../events.ts";
import { choosePlan, type Chosen } from "../planner/choose_plan.ts";
import type { Paces } from "../planner/paces.ts";
import type { Candidate } from "../planner/plan_request.ts";
import type { Recipe } from "../recipe/recipe.ts";
import type { ComputePhase } from "../recipe/recipe_phases.ts";

/** The plan of a phase over workers; the phase's own [mesh] keys go before the recipe's. Throws PlanInfeasible. */
export function planPhase(
  recipe: Recipe,
  phase: ComputePhase,
  config: ModelConfig,
  members: readonly Candidate[],
  generation: number,
  paces?: Pick<Paces, "of" | "link">,
): Chosen {
  return choosePlan({
    link: (a, b) => paces?.link(a, b),
    run: recipe.name,
    generation,
    config,
    workers: members.map((member) => ({ ...member, shown: paces?.of(member) })),
    shape: {
      batch: phase.batch / phase.microbatches,
      sequence: phase.sequence,
      microbatches: phase.microbatches,
    },
    ...(phase.kind === "train" ? { recompute: phase.recompute } : { recompute: false }),
    precision: phase.precision,
    codec: recipe.mesh.codec,
    ...(phase.kind === "train" && phase.local
      ? { local: { learningRate: phase.local.outer_learning_rate, momentum: phase.local.momentum } }
      : {}),
    replicas: recipe.mesh.replicas,
    shares: recipe.mesh.shares,
    schedule: recipe.mesh.schedule,
    visits: recipe.mesh.visits,
    ...meshOf(recipe, phase, config),
  });
}

/**
 * Stages and expert hosts that a phase asks for. What [mesh] says is meant for the largest model of the recipe: a dense
 * model has no experts to host, and a small one takes as many stages as it has layers.
 */
export function meshOf(recipe: Recipe, phase: ComputePhase, config: ModelConfig) {
  const switches = recipe.phases.some(({ kind }) => kind === "grow" || kind === "upcycle");
  const { stages, expert_hosts: hosts } = recipe.mesh;
  return {
    stages: phase.stages ?? (switches && stages !== undefined ? Math.min(stages, config.layers) : stages),
    expertHosts: phase.expert_hosts ?? (switches && config.experts === 0 ? 0 : hosts),
  };
}

/** A plan as the event that tells of it. */
export function describe(
  planned: Chosen,
  members: readonly Candidate[],
  config: ModelConfig,
  folder: string,
  run: string,
): Extract<RunEvent, { event: "plan" }> {
  const profiles = new Map(members.map(({ id, profile }) => [id, profile]));
  const workers = planned.holdings.map((holding): HeldBy => ({
    worker: holding.worker,
    device: profiles.get(holding.worker)!.deviceName,
    flops: profiles.get(holding.worker)!.flops,
    ...(holding.replica === undefined ? {} : { replica: holding.replica }),
    layers: holding.stages.map(({ from, to, embedding, head }) => ({ from, to, embedding, head })),
    experts: [...holding.experts].map(([layer, experts]) => ({ layer, experts })),
    parameters: holding.parameters,
    bytes: holding.bytes,
  }));
  return {
    event: "plan",
    run,
    folder,
    generation: planned.plan.generation,
    parameters: owners(config, planned.plan)
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    workers,
    idle: planned.idle,
    shape: planned.plan.shape,
    recompute: planned.plan.recompute,
    ...(planned.seconds === undefined ? {} : { predicted: planned.seconds }),
    schedule: planned.schedule,
    ...(planned.others.length === 0 ? {} : { others: planned.others }),
  };
}
