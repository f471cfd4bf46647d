/**
 * A cluster tried out: a plan and a round of it on the simulator's clock.
 *
 * @module
 */
import type { Cluster } from "../cost/cluster.ts";
import { arrangeBest, type Arranged, type ArrangeRequest } from "./schedule_choice.ts";
import type { Alternative, OrderName } from "../schedule/schedules.ts";

/** What a trial came to. */
export interface Trial extends Arranged {
  readonly request: ArrangeRequest;
  /** Schedules that were compared with the one taken; none where the request names one. */
  readonly others: readonly Alternative[];
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
  readonly schedule: OrderName;
}

/**
 * Plans, with the schedule that suits or the one that the request names, and simulates a round, the cluster's changes of
 * speed included. Throws PlanInfeasible and ScheduleError.
 */
export function runTrial(request: ArrangeRequest, trace: boolean): Trial {
  const { best, others } = arrangeBest(request, trace);
  return { ...best, request, others };
}

/** The numbers that compare one trial with another. */
export function summary({ request, timeline, stages, memory, schedule }: Trial): TrialSummary {
  const { batch, sequence, microbatches } = request.shape, members = [...memory.keys()];
  const busy = members.reduce((sum, w) => sum + timeline.workers[w].busy, 0);
  return {
    seconds: timeline.seconds,
    tokensPerSecond: batch * sequence * microbatches / timeline.seconds,
    idle: 1 - busy / (members.length * timeline.seconds),
    traffic: timeline.workers.reduce((sum, { sent }) => sum + sent, 0),
    stages: stages.length,
    members: members.length,
    schedule,
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
