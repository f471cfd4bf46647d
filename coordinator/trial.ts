/**
 * A cluster tried out: plan, then run a round of any schedule on the simulator's clock.
 *
 * @module
 */
import type { Stage } from "../mesh/plan.ts";
import type { Cluster } from "./cluster.ts";
import type { Division, Part } from "./division.ts";
import { PlanInfeasible } from "./errors.ts";
import { findPlan, type FindRequest, type FoundPlan, stagesOf } from "./find_plan.ts";
import { size } from "./report.ts";
import { actions, defaultChunks, placement, ScheduleError, type ScheduleName } from "./schedules.ts";
import { schedulePlan } from "./schedule.ts";
import { simulatePlan } from "./simulate_plan.ts";
import type { Timeline } from "./simulator.ts";
import { splitLayers } from "./split.ts";

/** What a trial came to. */
export interface Trial {
  readonly request: FindRequest;
  readonly schedule: ScheduleName;
  readonly found: FoundPlan;
  /** As the schedule wants them: a worker may have several. */
  readonly stages: readonly Stage[];
  readonly timeline: Timeline;
  /** Predicted bytes of device memory by worker of the cluster. */
  readonly memory: ReadonlyMap<number, number>;
}

/** Numbers of a trial. */
export interface TrialSummary {
  /** Predicted seconds of a step. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** Share of the step for which workers with a part do nothing, over all of them. */
  readonly idle: number;
  /** Bytes that all workers send in a step. */
  readonly traffic: number;
  readonly stages: number;
  /** Workers with a part. */
  readonly members: number;
}

/**
 * Plans for 1F1B, lays the stages out for `schedule` and simulates a round, the cluster's changes of speed included.
 * Throws PlanInfeasible and {@linkcode ScheduleError}.
 */
export function runTrial(request: FindRequest, schedule: ScheduleName, trace: boolean): Trial {
  const { cluster, codec, config, shape } = request;
  // Schedules with several stages on a worker need a layer for each, and have no hosts of experts.
  const chunks = defaultChunks(schedule), several = chunks > 1;
  const most = Math.floor(config.layers / chunks);
  if (several && (request.stages ?? 1) > most) {
    throw new ScheduleError(
      `The schedule ${schedule} puts ${chunks} stages on each worker: ${config.layers} layers are enough for ${most} ` +
        `workers, not for ${request.stages}.`,
    );
  }
  const found = several ? findShort(request, most) : findPlan(request);
  const options = { codec, trace };
  if (schedule === "1f1b") {
    const timeline = simulatePlan(found.plan, cluster, options);
    return {
      request,
      schedule,
      found,
      stages: found.plan.pipelines[0].stages,
      timeline,
      memory: found.memory,
    };
  }
  const division = several ? chunked(found, schedule, chunks) : found.division;
  const workers = found.division.length;
  const orders = actions(schedule, { workers, microbatches: shape.microbatches, chunks });
  const memory = found.judge.memory(division, orders);
  checkMemory(cluster, memory, schedule);
  const stages = stagesOf(request, division);
  const pipelines = [{ shares: [shape.microbatches], stages }];
  const operations = schedulePlan(pipelines, config.tiedEmbeddings, schedule);
  const timeline = simulatePlan({ ...found.plan, pipelines, operations }, cluster, options);
  return { request, schedule, found, stages, timeline, memory };
}

/** The best plan without hosts and with at most `most` stages. */
function findShort(request: FindRequest, most: number): FoundPlan {
  const found = findPlan({ ...request, hosts: false });
  return found.division.length <= most ? found : findPlan({ ...request, hosts: false, stages: most });
}

/** The workers of a division in their order, each with several spans of layers in proportion to its speed. */
function chunked({ division, judge }: FoundPlan, schedule: ScheduleName, chunks: number): Division {
  const { layers } = judge.setting.config, workers = division.length;
  const holders = placement(schedule, { workers, chunks }).map((w) => division[w].worker);
  const speeds = holders.map((worker) => {
    const { before, after, experts } = judge.predictor.seconds(worker);
    const all = [before, after, experts[judge.setting.config.experts]];
    return 1 / all.reduce((sum, { forward, input, weight }) => sum + forward + input + weight, 0);
  });
  const last = holders.length - 1, head = judge.predictor.seconds(holders[last]).head.forward * speeds[last];
  const borders = splitLayers(new Array<number>(layers).fill(1), speeds, 0, head);
  return holders.map((worker, s): Part => ({ worker, layers: borders[s + 1] - borders[s], remote: [] }));
}

function checkMemory(cluster: Cluster, memory: ReadonlyMap<number, number>, schedule: ScheduleName): void {
  const short = [...memory].filter(([w, bytes]) => bytes > cluster.workers[w].profile.memory);
  if (short.length === 0) return;
  const lines = short.slice(0, 4).map(([w, bytes]) => {
    const { id, profile } = cluster.workers[w];
    return `worker ${id} needs ${size(Math.ceil(bytes))} and has ${size(profile.memory)}`;
  });
  throw new PlanInfeasible(
    `The schedule ${schedule} keeps more microbatches than memory allows: ${
      lines.join("; ")
    }. 1f1b keeps fewer; ` +
      `recompute = true keeps less of each.`,
  );
}

/** The numbers that compare one trial with another. */
export function summary({ request, timeline, stages, memory }: Trial): TrialSummary {
  const { batch, sequence, microbatches } = request.shape, members = [...memory.keys()];
  const busy = members.reduce((sum, w) => sum + timeline.workers[w].busy, 0);
  return {
    seconds: timeline.seconds,
    tokensPerSecond: batch * sequence * microbatches / timeline.seconds,
    idle: 1 - busy / (members.length * timeline.seconds),
    traffic: timeline.workers.reduce((sum, { sent }) => sum + sent, 0),
    stages: stages.length,
    members: members.length,
  };
}

/** A cluster with all bandwidths times `factor`. */
export function scaledBandwidth(cluster: Cluster, factor: number): Cluster {
  return {
    ...cluster,
    workers: cluster.workers.map((worker) => ({
      ...worker,
      up: worker.up * factor,
      down: worker.down * factor,
    })),
    link: (a, b) => {
      const speed = cluster.link(a, b);
      return speed && { ...speed, bandwidth: speed.bandwidth * factor };
    },
  };
}

/** The first `count` workers of a cluster. */
export function firstWorkers(cluster: Cluster, count: number): Cluster {
  const workers = cluster.workers.slice(0, count), ids = new Set(workers.map(({ id }) => id));
  return {
    ...cluster,
    workers,
    changes: cluster.changes.filter((c) => c.workers.every((id) => ids.has(id))),
  };
}
