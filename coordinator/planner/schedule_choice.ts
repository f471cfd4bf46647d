/**
 * Which order of passes suits a cluster: the planner's best stages for each schedule, a round of each on the simulator's
 * clock, and the fastest that memory permits. Every schedule trains the same bits, so the choice is one of time alone;
 * leaving stages out (SkipPipe) is not, so that is only ever done where it is asked for.
 *
 * @module
 */
import type { Plan, Stage } from "../../mesh/plan.ts";
import type { Cluster } from "../cost/cluster.ts";
import type { Division, Part } from "./division.ts";
import { CoordinatorError, PlanInfeasible } from "../errors.ts";
import { findPlan, type FindRequest, type FoundPlan, stagesOf } from "./find_plan.ts";
import { withFewerTrips } from "./gathered.ts";
import { holdings, passes } from "../cost/holdings.ts";
import { size } from "../amounts.ts";
import { schedulePlan } from "../schedule/schedule.ts";
import {
  type Action,
  actions,
  type Alternative,
  defaultChunks,
  type OrderName,
  placement,
  ScheduleError,
  type ScheduleName,
  scheduleNames,
} from "../schedule/schedules.ts";
import { withCodecs } from "../cost/plan_codecs.ts";
import { simulatePlan } from "../simulator/simulate_plan.ts";
import type { Timeline } from "../simulator/round.ts";
import { skipSchedule } from "../routes/skip_schedule.ts";
import { splitLayers } from "../cost/split.ts";

/** What to plan; see {@linkcode FindRequest}. */
export interface ArrangeRequest extends Omit<FindRequest, "schedule"> {
  /** Default: the fastest. */
  readonly schedule?: ScheduleName;
  /** Stages that each microbatch visits (SkipPipe); default: all. */
  readonly visits?: number;
}

/** A plan under one schedule. */
export interface Arranged {
  readonly schedule: OrderName;
  /** The division with one stage on each worker that it was made from. */
  readonly found: FoundPlan;
  /** As the schedule wants them: a worker may have several. */
  readonly stages: readonly Stage[];
  readonly plan: Plan;
  readonly timeline: Timeline;
  /** Predicted bytes of device memory by worker of the cluster. */
  readonly memory: ReadonlyMap<number, number>;
}

/** The fastest plan and what it was compared with. */
export interface Arrangement {
  readonly best: Arranged;
  readonly others: readonly Alternative[];
}

/** What another schedule must win beside 1F1B: less is within what the simulator leaves out. */
export const SCHEDULE_GAIN = 0.99;
/** Rounds that are simulated to improve the spans of schedules with several stages on a worker. */
const mostTried = 300;

/** The fastest schedule, or the one that is asked for. Throws PlanInfeasible and {@linkcode ScheduleError}. */
export function arrangeBest(request: ArrangeRequest, trace = false): Arrangement {
  const { schedule, visits, ...rest } = request;
  if (visits !== undefined) return { best: arrangeSkips(request, visits, trace), others: [] };
  if (schedule !== undefined) return { best: arrange(rest, schedule, trace), others: [] };
  const plain = arrange(rest, "1f1b", trace), tried: Arranged[] = [], others: Alternative[] = [];
  // On one worker all orders are alike.
  for (const name of plain.stages.length > 1 ? scheduleNames : []) {
    if (name === "1f1b") continue;
    try {
      tried.push(arrange(rest, name, trace));
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      others.push({ schedule: name, why: error.message });
    }
  }
  const best = tried.reduce(
    (best, one) =>
      one.timeline.seconds < (best === plain ? SCHEDULE_GAIN : 1) * best.timeline.seconds ? one : best,
    plain,
  );
  const beside = [plain, ...tried].filter((one) => one !== best)
    .map(({ schedule, timeline: { seconds } }) => ({ schedule, seconds }));
  return { best, others: [...beside, ...others] };
}

/** The planner's best plan under a schedule. Throws PlanInfeasible and {@linkcode ScheduleError}. */
function arrange(request: FindRequest, schedule: ScheduleName, trace: boolean): Arranged {
  const { cluster, codec, config, shape } = request, chunks = defaultChunks(schedule);
  if (schedule === "1f1b" || schedule === "gpipe") {
    const found = findPlan({ ...request, schedule }), { plan, memory } = found;
    return gatheredBest(request, { schedule, found, plan, memory }, trace);
  }
  // Several stages on a worker need a layer for each, and are planned without hosts of experts.
  const most = Math.floor(config.layers / chunks);
  if ((request.stages ?? 1) > most) {
    throw new ScheduleError(
      `The schedule ${schedule} puts ${chunks} stages on each worker: ${config.layers} layers are enough for ${most} ` +
        `workers, not for ${request.stages}.`,
    );
  }
  const found = chunks > 1 ? findShort(request, most) : findPlan(request), workers = found.division.length;
  const orders = actions(schedule, { workers, microbatches: shape.microbatches, chunks });
  const division = chunks > 1 ? improved(found, chunked(found, schedule, chunks), orders) : found.division;
  const memory = found.judge.memory(division, orders);
  checkMemory(cluster, memory, schedule);
  const stages = stagesOf(request, division), pipelines = [{ shares: [shape.microbatches], stages }];
  const operations = schedulePlan(pipelines, config.tiedEmbeddings, schedule);
  const plan = withCodecs({ ...found.plan, pipelines, operations }, cluster, codec);
  return gatheredBest(request, { schedule, found, plan, memory }, trace);
}

/** A plan with its simulated round, or the same with hosts' experts in fewer layers where that is quicker and fits. */
function gatheredBest(
  { cluster, codec, config }: FindRequest,
  { schedule, found, plan, memory }: Pick<Arranged, "schedule" | "found" | "plan" | "memory">,
  trace: boolean,
): Arranged {
  const arranged = (plan: Plan, memory: Arranged["memory"]): Arranged => {
    const timeline = simulatePlan(plan, cluster, { trace }), [{ stages }] = plan.pipelines;
    return { schedule, found, stages, plan, timeline, memory };
  };
  const secondsOf = ({ timeline }: Arranged) => timeline.seconds;
  return withFewerTrips(arranged(plan, memory), plan.pipelines, 1, secondsOf, (gather) => {
    const pipelines = plan.pipelines.map((pipeline) => ({ ...pipeline, stages: gather(pipeline.stages) }));
    const fewer = withCodecs({ ...plan, pipelines }, cluster, codec);
    const needs = new Map(holdings(config, fewer).map(({ worker, bytes }) => [worker, bytes]));
    const places = cluster.workers.flatMap(({ id }, w) =>
      needs.has(id) ? [[w, needs.get(id)!] as const] : []
    );
    const fits = places.every(([w, bytes]) => bytes <= cluster.workers[w].profile.memory);
    return fits ? arranged(fewer, new Map(places)) : undefined;
  });
}

/** Stages of 1F1B, the head beside the first, and microbatches that visit some of them. */
function arrangeSkips(request: ArrangeRequest, visits: number, trace: boolean): Arranged {
  const { schedule, visits: _, ...rest } = request, { cluster, codec, shape } = rest;
  if (schedule !== undefined) {
    throw new ScheduleError(
      "Microbatches that leave stages out have an order of their own: leave schedule out, or visits.",
    );
  }
  const found = findPlan(rest);
  const division = [...found.division, { worker: found.division[0].worker, layers: 0, remote: [] }];
  const stages = stagesOf(request, division), holders = new Set(stages.map(({ worker }) => worker));
  const hosts = [...new Set(stages.flatMap(({ experts }) => experts.flat()))].filter((id) =>
    !holders.has(id)
  );
  const operations = skipSchedule({ stages, microbatches: shape.microbatches, visits, hosts });
  const pipelines = [{ shares: [shape.microbatches], stages }];
  const plan = withCodecs({ ...found.plan, pipelines, operations }, cluster, codec);
  const memory = found.judge.memory(division, [...holders].map((id) => passes(operations[id].train)));
  checkMemory(cluster, memory, "skippipe");
  const timeline = simulatePlan(plan, cluster, { trace });
  return { schedule: "skippipe", found, stages, plan, timeline, memory };
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

/** Single layers go from stage to stage while that makes the round shorter, or what memory lacks less. */
function improved(
  { judge }: FoundPlan,
  start: Division,
  orders: readonly (readonly Action[])[],
): Division {
  const { workers } = judge.setting.cluster;
  const price = (division: Division): readonly [short: number, seconds: number] => {
    let short = 0;
    for (const [worker, bytes] of judge.memory(division, orders)) {
      short += Math.max(0, bytes - workers[worker].profile.memory);
    }
    return [short, short > 0 ? Infinity : judge.simulate(division, orders).seconds];
  };
  let best = start, least = price(start), left = mostTried;
  for (let better = true; better && left > 0;) {
    better = false;
    for (let from = 0; from < start.length && left > 0; from++) {
      for (let to = 0; to < start.length && left > 0; to++) {
        if (from === to || best[from].layers < 2) continue;
        const next = best.map((part, s) => ({
          ...part,
          layers: part.layers - (s === from ? 1 : 0) + (s === to ? 1 : 0),
        }));
        const now = price(next);
        left--;
        if (now[0] < least[0] || (now[0] === least[0] && now[1] < least[1])) {
          [best, least, better] = [next, now, true];
        }
      }
    }
  }
  return best;
}

function checkMemory(cluster: Cluster, memory: ReadonlyMap<number, number>, schedule: OrderName): void {
  const short = [...memory].filter(([w, bytes]) => bytes > cluster.workers[w].profile.memory);
  if (short.length === 0) return;
  const lines = short.slice(0, 4).map(([w, bytes]) => {
    const { id, profile } = cluster.workers[w];
    return `worker ${id} needs ${size(Math.ceil(bytes))} and lends ${size(profile.memory)}`;
  });
  throw new PlanInfeasible(
    `The schedule ${schedule} keeps more microbatches than memory allows: ${lines.join("; ")}. ` +
      `1f1b keeps fewer; recompute = true keeps less of each.`,
  );
}
