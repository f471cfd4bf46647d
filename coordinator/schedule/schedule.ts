/**
 * Operation lists: in which order each worker computes, sends and receives within a round.
 *
 * @module
 */
import type { Operation, Pipeline, Plan, Stage } from "../../mesh/plan.ts";
import { type Action, actions, placement, ScheduleError, type ScheduleName } from "./schedules.ts";

/** What the lists depend on. */
export interface ScheduleOptions {
  readonly stages: readonly Stage[];
  readonly microbatches: number;
  /** Where a round has several shares: those of this pipeline (together `microbatches`), and what comes before and beside. */
  readonly replica?: {
    readonly shares: readonly number[];
    /** The pipeline's first microbatch. */
    readonly first: number;
    /** There are other pipelines. */
    readonly others: boolean;
    /** Pipelines train locally. */
    readonly local?: boolean;
  };
  /** Whether embedding and head are one tensor. */
  readonly tied: boolean;
  /** Workers that hold only experts: they answer their peers' requests and vote. */
  readonly hosts: readonly string[];
  /** Default "1f1b". */
  readonly name?: ScheduleName;
}

/** The lists of all workers of a plan, pipeline by pipeline. Throws like {@linkcode schedule}. */
export function schedulePlan(
  pipelines: readonly Pipeline[],
  tied: boolean,
  name?: ScheduleName,
  local = false,
): Plan["operations"] {
  const several = pipelines.length > 1 || pipelines[0].shares.length > 1;
  let first = 0;
  return Object.assign(
    {},
    ...pipelines.map(({ shares, stages }) => {
      const microbatches = shares.reduce((sum, share) => sum + share, 0),
        holders = stages.map((s) => s.worker);
      const hosts = [...new Set(stages.flatMap(({ experts }) => experts.flat()))].filter((host) =>
        !holders.includes(host)
      );
      const replica = several ? { shares, first, others: pipelines.length > 1, local } : undefined;
      first += microbatches;
      return schedule({ stages, microbatches, tied, hosts, name, replica });
    }),
  );
}

/**
 * The named schedule for training (see schedules.ts; one-forward-one-backward unless told otherwise), forward only for
 * evaluation. Backward passes come in order of microbatch on every stage: gradients are added in that order. Throws
 * {@linkcode ScheduleError} where the stages do not lie as the schedule wants them.
 */
export function schedule(options: ScheduleOptions): Plan["operations"] {
  const { stages, hosts, tied, microbatches, name = "1f1b" } = options, count = stages.length;
  const lists: Plan["operations"] = {};
  const embedding = stages.findIndex((stage) => stage.embedding),
    head = stages.findIndex((stage) => stage.head);
  const split = tied && stages[embedding].worker !== stages[head].worker;
  const workers = [...new Set(stages.map((stage) => stage.worker))], chunks = count / workers.length;
  checkPlaces(name, stages, workers);
  const { shares, first, others, local = false } = options.replica ??
    { shares: [microbatches], first: 0, others: false };
  const fold: Operation[] = options.replica ? [{ do: "fold" }] : [];
  const reduce: Operation[] = others && !local ? [{ do: "reduce" }] : [];
  const spread: Operation[] = others ? [{ do: local ? "outer" : "spread" }] : [];
  workers.forEach((worker, w) => {
    const own = stages.flatMap((stage, s) => stage.worker === worker ? [s] : []);
    const train: Operation[] = [], evaluate: Operation[] = [];
    let offset = first;
    for (const share of shares) {
      const order = actions(name, { workers: workers.length, microbatches: share, chunks })[w];
      for (const { work, stage, microbatch } of order) {
        if (work === "forward") {
          const passes = forward(stage, count, offset + microbatch);
          train.push(...passes);
          evaluate.push(...passes);
        } else train.push(...backward(work, stage, count, offset + microbatch));
      }
      if (split) train.push(...own.flatMap((s) => tie("tied-gradient", s, head, embedding)));
      train.push(...fold);
      offset += share;
    }
    train.push(...reduce, { do: "vote" }, ...spread);
    if (split) train.push(...own.flatMap((s) => tie("tied-weight", s, embedding, head)));
    lists[worker] = { train, evaluate };
  });
  for (const host of hosts) {
    lists[host] = {
      train: [...shares.flatMap(() => fold), ...reduce, { do: "vote" }, ...spread],
      evaluate: [],
    };
  }
  return lists;
}

/** Each stage must be on the worker where its schedule puts it. */
function checkPlaces(name: ScheduleName, stages: readonly Stage[], workers: readonly string[]): void {
  const chunks = stages.length / workers.length;
  const where = Number.isInteger(chunks) ? placement(name, { workers: workers.length, chunks }) : [];
  const wrong = stages.findIndex((stage, s) => stage.worker !== workers[where[s]]);
  if (wrong < 0) return;
  throw new ScheduleError(
    `Stage ${wrong} is on worker ${stages[wrong].worker}, where the schedule ${name} does not want it` +
      `${name === "interleaved" ? ": the workers take turns, each as often as the others." : "."}`,
  );
}

function forward(stage: number, stages: number, microbatch: number): Operation[] {
  const what = "activation";
  const list: Operation[] = [];
  if (stage > 0) list.push({ do: "receive", what, stage, peer: stage - 1, microbatch });
  list.push({ do: "forward", stage, microbatch });
  if (stage < stages - 1) list.push({ do: "send", what, stage, peer: stage + 1, microbatch });
  return list;
}

function backward(
  work: Exclude<Action["work"], "forward">,
  stage: number,
  stages: number,
  microbatch: number,
): Operation[] {
  const what = "gradient";
  if (work === "backward-weight") return [{ do: work, stage, microbatch }]; // nobody else has to do with it
  const list: Operation[] = [];
  if (stage < stages - 1) list.push({ do: "receive", what, stage, peer: stage + 1, microbatch });
  list.push({ do: work, stage, microbatch });
  if (stage > 0) list.push({ do: "send", what, stage, peer: stage - 1, microbatch });
  return list;
}

/** The part of stage `s` in a transfer of a tied tensor from stage `from` to stage `to`. */
function tie(what: "tied-gradient" | "tied-weight", s: number, from: number, to: number): Operation[] {
  if (s === from) return [{ do: "send", what, stage: s, peer: to }];
  if (s === to) return [{ do: "receive", what, stage: s, peer: from }];
  return [];
}
