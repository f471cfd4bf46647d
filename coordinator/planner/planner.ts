/**
 * The planner: divides a model over the workers that are there. Contiguous stages in proportion to measured speed, the
 * experts of each layer over its own worker and the workers that hold no layers.
 *
 * @module
 */
import type { Candidate, PlanRequest } from "./plan_request.ts";
import { configToJson } from "../../model/config.ts";
import { checkPrecision } from "../../model/precision.ts";
import { type Pipeline, pipelineOf, type Plan, type Stage } from "../../mesh/plan.ts";
import { codecsOf } from "./codec_choice.ts";
import { PlanInfeasible } from "../errors.ts";
import { levelled } from "./levelled.ts";
import { divide } from "./proportion.ts";
import { type Holding, holdings, shareOwnership } from "../cost/holdings.ts";
import { schedulePlan } from "../schedule/schedule.ts";
import { defaultChunks, placement } from "../schedule/schedules.ts";
import { skipSchedule } from "../routes/skip_schedule.ts";
import { teamsOf } from "./teams.ts";

/** A plan, what each worker holds under it, and who has no part in it. */
export interface Planned {
  readonly plan: Plan;
  readonly holdings: readonly Holding[];
  readonly idle: readonly string[];
}

/** Throws {@linkcode PlanInfeasible}. The same request always gives the same plan. */
export function makePlan(request: PlanRequest): Planned {
  const { config, shape } = request;
  if (request.workers.length === 0) {
    throw new PlanInfeasible(
      "No worker has joined. Start one with the join command that `volary up` printed.",
    );
  }
  checkPrecision(config, request.precision ?? "f32");
  // The fastest hold layers; among equals, who came first.
  const ranked = levelled(request.workers).map((worker, joined) => ({ worker, joined }))
    .sort((a, b) => b.worker.profile.flops - a.worker.profile.flops || a.joined - b.joined)
    .map(({ worker }) => worker);
  const pipelines = teamsOf(request, ranked).map(({ workers, shares }): Pipeline => {
    const counts = countParts(request, workers.length);
    const hosts = workers.slice(counts.holders, counts.holders + counts.hosts);
    const microbatches = shares.reduce((sum, share) => sum + share, 0);
    const { schedule = "1f1b", visits } = request;
    const places = visits === undefined
      ? placement(schedule, { workers: counts.holders, chunks: defaultChunks(schedule) })
      : inTurn(request.stages ?? counts.holders, counts.holders);
    const holders = places.map((w) => workers[w]);
    // Which layers a microbatch leaves out is part of what is computed: it must not depend on who joined.
    const borders = visits === undefined ? undefined : evenBorders(config.layers, holders.length);
    const stages = divide(config, { ...shape, microbatches }, holders, hosts, borders);
    return { shares: [...shares], stages: visits === undefined ? stages : headApart(stages) };
  });
  return plannedOf(request, pipelines);
}

/** The worker of each stage where there are fewer workers than stages: neighbours lie together. */
function inTurn(stages: number, workers: number): number[] {
  return Array.from({ length: stages }, (_, stage) => Math.floor(stage * workers / stages));
}

/** Spans of as many layers each as can be. */
function evenBorders(layers: number, stages: number): number[] {
  return Array.from({ length: stages + 1 }, (_, stage) => Math.floor(stage * layers / stages));
}

/** The head as a stage of its own beside the first: microbatches come to it from whatever stage they visited last. */
function headApart(stages: readonly Stage[]): Stage[] {
  const { worker } = stages[0], end = stages.at(-1)!.to;
  return [
    ...stages.map((stage) => ({ ...stage, head: false })),
    { worker, from: end, to: end, embedding: false, head: true, experts: [] },
  ];
}

/** The lists of all workers. Throws {@linkcode PlanInfeasible} and ScheduleError. */
function operationsOf(
  { config, visits, schedule, local, shape }: PlanRequest,
  pipelines: readonly Pipeline[],
): Plan["operations"] {
  if (visits === undefined) {
    return schedulePlan(pipelines, config.tiedEmbeddings, schedule, local !== undefined);
  }
  const [{ stages, shares }] = pipelines;
  if (pipelines.length > 1 || shares.length > 1 || schedule !== undefined) {
    throw new PlanInfeasible(
      "Microbatches that leave stages out have one pipeline and an order of their own: leave replicas, shares and " +
        "schedule out of [mesh], or visits.",
    );
  }
  const holders = new Set(stages.map(({ worker }) => worker));
  const hosts = [...new Set(stages.flatMap(({ experts }) => experts.flat()))].filter((id) =>
    !holders.has(id)
  );
  return skipSchedule({ stages, microbatches: shape.microbatches, visits, hosts });
}

/** The plan of given pipelines. Throws {@linkcode PlanInfeasible} where they do not fit. */
export function plannedOf(request: PlanRequest, pipelines: Pipeline[]): Planned {
  const { config, shape } = request;
  if (request.local !== undefined && pipelines.length < 2) {
    throw new PlanInfeasible(
      "Local training needs at least two replicas, but the plan has one: set [mesh] replicas (each needs a worker of its " +
        "own and a microbatch of each step), or leave local out of the phase.",
    );
  }
  const members = request.workers.filter(({ id }) => pipelineOf(pipelines, id) >= 0);
  const owners = shareOwnership(config, pipelines.length);
  const operations = operationsOf(request, pipelines);
  const plan: Plan = {
    run: request.run,
    generation: request.generation,
    model: configToJson(config),
    shape,
    pipelines,
    owners,
    recompute: request.recompute,
    ...(request.precision === undefined ? {} : { precision: request.precision }),
    ...codecsOf(request, members, { pipelines, owners, operations }),
    ...(request.local === undefined ? {} : { local: request.local }),
    operations,
  };
  const held = holdings(config, plan);
  checkMemory(members, held, request.recompute);
  return {
    plan,
    holdings: held,
    idle: request.workers.filter((w) => !members.includes(w)).map(({ id }) => id),
  };
}

/** Workers with layers and hosts of a pipeline of so many workers. */
function countParts(request: PlanRequest, workers: number): { holders: number; hosts: number } {
  const { config, expertHosts, schedule = "1f1b" } = request, chunks = defaultChunks(schedule);
  if (request.stages !== undefined && request.stages > config.layers) {
    throw new PlanInfeasible(
      `${request.stages} stages are more than the model's ${config.layers} layers; a stage needs at least one: ` +
        `set [mesh] stages to at most ${config.layers}.`,
    );
  }
  if (expertHosts !== undefined && expertHosts > 0 && config.experts === 0) {
    throw new PlanInfeasible(
      `${expertHosts} workers should hold only experts, but the model is dense: set [mesh] expert_hosts to 0.`,
    );
  }
  const fits = Math.floor(config.layers / chunks);
  if (fits === 0 || (request.stages ?? 0) % chunks !== 0) {
    throw new PlanInfeasible(
      `The schedule ${schedule} gives each worker ${chunks} stages, ` +
        (fits === 0
          ? `and a model of ${config.layers} layer has no more than one: set [mesh] schedule to 1f1b.`
          : `so ${request.stages} cannot be dealt: set [mesh] stages to a multiple of ${chunks}, or leave it out.`),
    );
  }
  const most = Math.max(1, Math.min(fits, workers - (expertHosts ?? 0)));
  // Stages of microbatches that leave some out may lie together: which ones they leave out does not depend on the workers.
  const wanted = request.visits === undefined ? request.stages : undefined;
  const holders = wanted === undefined ? Math.min(most, request.stages ?? most) : wanted / chunks;
  const stages = holders * chunks, free = workers - holders;
  const hosts = expertHosts ?? (config.experts > 0 ? Math.max(0, Math.min(free, config.experts)) : 0);
  if (holders + hosts > workers) {
    const missing = holders + hosts - workers;
    throw new PlanInfeasible(
      `${stages} ${stages === 1 ? "stage" : "stages"} and ${hosts} expert hosts need ${holders + hosts} ` +
        `workers, but ${workers} ${workers === 1 ? "has" : "have"} joined: start ${missing} more, or ` +
        "ask for fewer parts.",
    );
  }
  if (hosts > config.experts) {
    throw new PlanInfeasible(
      `${hosts} expert hosts are more than the ${config.experts} experts of a layer: set [mesh] expert_hosts to at ` +
        `most ${config.experts}.`,
    );
  }
  return { holders, hosts };
}

function checkMemory(workers: readonly Candidate[], held: readonly Holding[], recompute: boolean): void {
  const lent = new Map(workers.map(({ id, profile }) => [id, profile.memory]));
  const short = held.map((holding) => ({ holding, lends: lent.get(holding.worker)! }))
    .filter(({ holding, lends }) => holding.bytes > lends);
  if (short.length === 0) return;
  const lines = short.map(({ holding, lends }) =>
    `worker ${holding.worker} would need about ${mebibytes(holding.bytes)} MiB and lends ` +
    `${mebibytes(lends)} MiB (${mebibytes(holding.bytes - lends)} MiB short)`
  );
  throw new PlanInfeasible(
    recompute
      ? `The model does not fit, although activations would be computed again: ${lines.join("; ")}. ` +
        "More workers or more microbatches (smaller ones) need less memory on each; join --memory lends " +
        "more."
      : `The model does not fit: ${lines.join("; ")}. More workers, more microbatches (smaller ones) or ` +
        `recompute = true in the phase need less memory on each; join --memory lends more.`,
  );
}

function mebibytes(bytes: number): string {
  return Math.ceil(bytes / 2 ** 20).toLocaleString("en");
}
