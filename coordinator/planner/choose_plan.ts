/**
 * The plan that a run takes: the planner's quick proportion under 1F1B, or another schedule, or what the search over
 * divisions finds, where that is better by the simulator's word; and the step that is predicted for it.
 *
 * @module
 */
import type { Cluster } from "../cost/cluster.ts";
import { unknownBandwidth } from "./codec_choice.ts";
import { CoordinatorError, PlanInfeasible } from "../errors.ts";
import { findPlan, stagesOf } from "./find_plan.ts";
import { findReplicas } from "./find_replicas.ts";
import { withFewerTrips } from "./gathered.ts";
import { levelled } from "./levelled.ts";
import { makePlan, type Planned, plannedOf } from "./planner.ts";
import type { Candidate, PlanRequest } from "./plan_request.ts";
import {
  type Alternative,
  defaultChunks,
  type OrderName,
  type ScheduleName,
  scheduleNames,
} from "../schedule/schedules.ts";
import { simulatePlan } from "../simulator/simulate_plan.ts";

/** A plan with its predicted seconds of a training step; undefined where no worker's memory was measured. */
export interface Chosen extends Planned {
  readonly seconds: number | undefined;
  /** Seconds of it in which each worker's device is busy, guests' work included; empty where nothing is predicted. */
  readonly busy: ReadonlyMap<string, number>;
  readonly schedule: OrderName;
  /** Schedules that were compared with it; none where the recipe names one or nothing is predicted. */
  readonly others: readonly Alternative[];
}

/** A plan whose step is predicted. */
interface Predicted extends Chosen {
  readonly seconds: number;
}

/** Links of which nothing is known: a home's upload, and what one connection carries between two processes. */
const unknown = { latency: 0.02, bandwidth: unknownBandwidth };
/** What a search or another schedule must win in predicted time: less than that is within what links that nobody measured may hide. */
const gain = 0.95;
/** A moment's search: a run plans each of its phases several times. */
const effort = { changes: 500, starts: 3, polish: 20 };
/** Workers up to which that is a moment. */
const mostSearched = 32;

/** What to plan. Where recomputation is left open it is taken only where nothing fits without: it costs time, and no bit. */
export interface ChooseRequest extends Omit<PlanRequest, "recompute" | "replicas"> {
  readonly recompute?: boolean;
  /** "auto": as many as make the quickest step. */
  readonly replicas?: number | "auto";
}

/** Throws PlanInfeasible and ScheduleError. The same request always gives the same plan. */
export function choosePlan({ recompute, replicas, ...request }: ChooseRequest): Chosen {
  const choice = (recompute: boolean) =>
    replicas === "auto"
      ? withReplicas({ ...request, recompute })
      : choose({ ...request, recompute, replicas });
  if (recompute !== undefined) return choice(recompute);
  try {
    return choice(false);
  } catch (error) {
    if (!(error instanceof PlanInfeasible)) throw error;
    return choice(true);
  }
}

/** One pipeline, or those of which the search says that they are quicker and leave nobody out. */
function withReplicas(request: PlanRequest): Chosen {
  const alone = choose(request), cluster = assumedCluster(request.workers, request.link);
  const { stages, expertHosts, shares, local, schedule, visits } = request;
  const pinned = [stages, expertHosts, shares, local, schedule, visits].some((key) => key !== undefined);
  if (pinned || cluster === undefined || request.workers.length > mostSearched) return alone;
  const found = findReplicas({ ...request, schedule: undefined, cluster });
  if (found === undefined) return alone;
  // The search's pipelines were made for 1F1B and have one stage on a worker: other orders of the same stages may be quicker.
  const orders = scheduleNames.filter((name) => defaultChunks(name) === 1);
  const deep = found.plan.pipelines.some(({ stages }) => stages.length > 1);
  const tried = (deep ? orders : ["1f1b" as const]).flatMap((schedule) => {
    try {
      return [
        predicted(request, plannedOf({ ...request, schedule }, found.plan.pipelines), schedule, cluster),
      ];
    } catch (error) {
      if (error instanceof PlanInfeasible) return []; // a run counts memory more carefully than the search
      throw error;
    }
  });
  const plain = tried.find(({ schedule }) => schedule === "1f1b");
  if (plain === undefined || plain.idle.length > alone.idle.length) return alone;
  const best = quickest(tried, plain);
  if (!(best.seconds < gain * alone.seconds!)) return alone;
  return { ...best, others: besides(best.schedule, tried) };
}

/** The quickest of several, or `plain` where none gains enough beside it. */
function quickest(tried: readonly Predicted[], plain: Predicted): Predicted {
  const fastest = tried.reduce((best, one) => one.seconds < best.seconds ? one : best);
  return fastest.seconds < gain * plain.seconds ? fastest : plain;
}

function choose(request: PlanRequest): Chosen {
  const cluster = assumedCluster(request.workers, request.link);
  const plain = makePlan(request), { schedule, visits } = request;
  const named = visits !== undefined ? "skippipe" : schedule ?? "1f1b";
  if (cluster === undefined) {
    return { ...plain, schedule: named, seconds: undefined, busy: new Map(), others: [] };
  }
  const proportion = predicted(request, plain, named, cluster);
  const tried = [proportion, ...search(request, plain, cluster)], others: Alternative[] = [];
  if (schedule === undefined && visits === undefined) {
    for (const name of otherSchedules(request, plain)) {
      try {
        const planned = makePlan({ ...request, schedule: name });
        if (planned.idle.length <= plain.idle.length) tried.push(predicted(request, planned, name, cluster));
        else others.push({ schedule: name, why: `it leaves ${planned.idle.join(", ")} without a part` });
      } catch (error) {
        if (!(error instanceof CoordinatorError)) throw error;
        others.push({ schedule: name, why: error.message });
      }
    }
  }
  const best = quickest(tried, proportion);
  return { ...best, others: [...besides(best.schedule, tried), ...others] };
}

/** Schedules beside 1F1B that leave the number of stages that the recipe asks for as it is; none for a single worker. */
function otherSchedules({ stages }: PlanRequest, { plan }: Planned): ScheduleName[] {
  const holders = Math.max(...plan.pipelines.map((pipeline) => pipeline.stages.length));
  if (holders === 1) return [];
  return scheduleNames.filter((name) =>
    name !== "1f1b" && (stages === undefined || defaultChunks(name) === 1)
  );
}

/** The best of each schedule that was not taken. */
function besides(taken: OrderName, tried: readonly Predicted[]): Alternative[] {
  const least = new Map<OrderName, number>();
  for (const { schedule, seconds } of tried) {
    least.set(schedule, Math.min(seconds, least.get(schedule) ?? Infinity));
  }
  least.delete(taken);
  return [...least].map(([schedule, seconds]) => ({ schedule, seconds }));
}

/**
 * A plan's predicted step: of the plan itself, or of the same with hosts' experts in fewer layers where that is as good as
 * predictions can tell. Of a trip to a host they know neither what its messages cost both ends nor a road's bad moments.
 */
function predicted(
  request: PlanRequest,
  planned: Planned,
  schedule: OrderName,
  cluster: Cluster,
): Predicted {
  const { pipelines } = planned.plan, plain = simulated(planned, schedule, cluster);
  if (schedule === "skippipe") return plain; // its paths are laid out for the layers as they are
  return withFewerTrips(plain, pipelines, 1 / gain, ({ seconds }) => seconds, (gather) => {
    const fewer = pipelines.map((pipeline) => ({ ...pipeline, stages: gather(pipeline.stages) }));
    try {
      return simulated(plannedOf({ ...request, schedule }, fewer), schedule, cluster);
    } catch (error) {
      if (error instanceof PlanInfeasible) return undefined; // rows of one layer take their memory all at once
      throw error;
    }
  });
}

function simulated(planned: Planned, schedule: OrderName, cluster: Cluster): Predicted {
  const { seconds, workers } = simulatePlan(planned.plan, cluster);
  const busy = new Map(cluster.workers.map(({ id }, w) => [id, workers[w].busy]));
  return { ...planned, seconds, busy, schedule, others: [] };
}

/** The workers, with what is known of their links; undefined where their memory was not measured. */
export function assumedCluster(
  workers: readonly Candidate[],
  link: PlanRequest["link"] = () => undefined,
): Cluster | undefined {
  const known = levelled(workers).flatMap(({ id, profile: { bandwidth, ...profile } }) =>
    bandwidth === undefined ? [] : [{
      id,
      profile: { ...profile, bandwidth },
      up: profile.lent?.sending ?? Infinity,
      down: Infinity,
    }]
  );
  if (known.length < workers.length) return undefined;
  const between = (a: number, b: number) => {
    const { latency = unknown.latency, bandwidth = unknown.bandwidth } = link(known[a].id, known[b].id) ?? {};
    return { latency, bandwidth };
  };
  return { name: "joined", workers: known, link: between, changes: [] };
}

/**
 * Another order and split over as many workers, under each schedule that has one stage on a worker. What the recipe pins
 * stays, and nobody is left out because of links that were only assumed.
 */
function search(request: PlanRequest, { plan, idle }: Planned, cluster: Cluster): Predicted[] {
  const { stages, expertHosts, replicas, shares, local, schedule, visits } = request;
  const pinned = [stages, expertHosts, replicas, shares, local, schedule, visits]
    .some((key) => key !== undefined);
  if (pinned || plan.pipelines.length > 1 || request.workers.length > mostSearched) return [];
  const wanted = { stages: plan.pipelines[0].stages.length };
  return (["1f1b", "gpipe"] as const).flatMap((schedule) => {
    try {
      const { run, generation, config, shape, recompute, precision, codec } = request;
      const asked = {
        run,
        generation,
        config,
        cluster,
        shape,
        recompute,
        precision,
        codec,
        effort,
        schedule,
        ...wanted,
      };
      const { division } = findPlan(asked);
      const pipelines = [{ shares: [shape.microbatches], stages: stagesOf({ config, cluster }, division) }];
      const planned = plannedOf({ ...request, schedule }, pipelines);
      return planned.idle.length > idle.length ? [] : [predicted(request, planned, schedule, cluster)];
    } catch (error) {
      if (error instanceof PlanInfeasible) return []; // the proportion's own check has passed
      throw error;
    }
  });
}
