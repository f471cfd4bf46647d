/**
 * The plan that a run takes: the planner's quick proportion, or what the search over divisions finds where that is better by
 * the simulator's word, and the step that is predicted for it.
 *
 * @module
 */
import type { Cluster } from "./cluster.ts";
import { PlanInfeasible } from "./errors.ts";
import { findPlan, stagesOf } from "./find_plan.ts";
import { type Candidate, levelled, makePlan, type Planned, plannedOf, type PlanRequest } from "./planner.ts";
import { simulatePlan } from "./simulate_plan.ts";

/** A plan with its predicted seconds of a training step; undefined where no worker's memory was measured. */
export interface Chosen extends Planned {
  readonly seconds: number | undefined;
  /** Seconds of it in which each worker's device is busy, guests' work included; empty where nothing is predicted. */
  readonly busy: ReadonlyMap<string, number>;
}

/** Links of which nothing is known: a home's upload, and what one connection carries between two processes. */
const unknown = { latency: 0.02, bandwidth: 12e6 };
/** What a search must win in predicted time: less than that is within what links that nobody measured may hide. */
const gain = 0.95;
/** A moment's search: a run plans each of its phases several times. */
const effort = { changes: 500, starts: 3, polish: 20 };
/** Workers up to which that is a moment. */
const mostSearched = 32;

/** Throws PlanInfeasible. The same request always gives the same plan. */
export function choosePlan(request: PlanRequest): Chosen {
  const cluster = assumedCluster(request.workers, request.link);
  const plain = makePlan(request);
  if (cluster === undefined) return { ...plain, seconds: undefined, busy: new Map() };
  const proportion = predicted(plain, cluster);
  const found = search(request, plain, cluster);
  if (found === undefined) return proportion;
  const searched = predicted(found, cluster);
  return searched.seconds < gain * proportion.seconds ? searched : proportion;
}

function predicted(planned: Planned, cluster: Cluster): Chosen & { readonly seconds: number } {
  const { seconds, workers } = simulatePlan(planned.plan, cluster);
  return { ...planned, seconds, busy: new Map(cluster.workers.map(({ id }, w) => [id, workers[w].busy])) };
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
 * Another order and split over as many workers. What the recipe pins stays, and nobody is left out because of links that
 * were only assumed.
 */
function search(request: PlanRequest, { plan, idle }: Planned, cluster: Cluster): Planned | undefined {
  const {
    stages,
    expertHosts,
    replicas,
    shares,
    local,
    schedule,
    visits,
    workers,
    config,
    shape,
    recompute,
    precision,
  } = request;
  const pinned = [stages, expertHosts, replicas, shares, local, schedule, visits].some((key) =>
    key !== undefined
  );
  if (pinned || plan.pipelines.length > 1 || workers.length > mostSearched) return undefined;
  try {
    const { run, generation } = request, wanted = { stages: plan.pipelines[0].stages.length };
    const found = findPlan({
      run,
      generation,
      config,
      cluster,
      shape,
      recompute,
      precision,
      effort,
      ...wanted,
    });
    const pipelines = [{
      shares: [shape.microbatches],
      stages: stagesOf({ config, cluster }, found.division),
    }];
    const planned = plannedOf(request, pipelines);
    return planned.idle.length > idle.length ? undefined : planned;
  } catch (error) {
    if (error instanceof PlanInfeasible) return undefined; // the proportion's own check has passed
    throw error;
  }
}
