/**
 * SkipPipe on workers (Blagoev, Chen, Ersoy 2025): a microbatch visits the first stage and some of the others. The head is
 * a stage of its own without layers, behind whatever stage came last. Paths and the order of all passes depend on the
 * numbers of stages, microbatches and visits alone, so that every stage adds gradients in the same order on however many
 * workers.
 *
 * @module
 */
import type { Operation, Plan, Stage } from "../../mesh/plan.ts";
import { routeRound } from "./route_round.ts";
import { ScheduleError } from "../schedule/schedules.ts";

/** What the lists depend on. */
export interface SkipOptions {
  /** Stages with layers, then the head's. */
  readonly stages: readonly Stage[];
  readonly microbatches: number;
  /** Stages with layers that each microbatch visits. */
  readonly visits: number;
  /** Workers that hold only experts: they answer their peers' requests and vote. */
  readonly hosts: readonly string[];
}

/** The stages that each microbatch visits, in order: the first, then others in turn, so that all are visited equally. */
export function skipPaths(stages: number, microbatches: number, visits: number): number[][] {
  if (visits > stages || visits < 1) {
    throw new ScheduleError(
      `Microbatches cannot visit ${visits} of ${stages} stages: set [mesh] visits to a number from 1 to ${stages}.`,
    );
  }
  const others = stages - 1;
  return Array.from({ length: microbatches }, (_, m) => {
    const chosen = Array.from({ length: visits - 1 }, (_, i) => 1 + (m * (visits - 1) + i) % others);
    return [0, ...chosen.sort((a, b) => a - b)];
  });
}

/** Lists of all workers: the visits of `paths` in training, all stages in evaluation. Throws {@linkcode ScheduleError}. */
export function skipSchedule({ stages, microbatches, visits, hosts }: SkipOptions): Plan["operations"] {
  const head = stages.length - 1, paths = skipPaths(head, microbatches, visits);
  const lists: Plan["operations"] = {};
  for (const id of [...stages.map(({ worker }) => worker), ...hosts]) lists[id] = { train: [], evaluate: [] };
  for (const { work, stage, microbatch } of skipOrder(head, paths)) {
    const path = paths[microbatch], at = path.indexOf(stage);
    const before = work === "head" ? path.at(-1)! : path[at - 1], behind = path[at + 1] ?? head;
    const own = lists[stages[work === "head" ? head : stage].worker].train;
    if (work === "head") {
      own.push(
        ...pass("forward", head, microbatch, before, undefined),
        ...pass("backward", head, microbatch, undefined, before),
      );
    } else if (work === "forward") own.push(...pass(work, stage, microbatch, before, behind));
    else own.push(...pass("backward", stage, microbatch, behind, before));
  }
  for (let microbatch = 0; microbatch < microbatches; microbatch++) {
    stages.forEach(({ worker }, s) => {
      const [before, behind] = [s - 1, s + 1].map((other) => stages[other] ? other : undefined);
      lists[worker].evaluate.push(...pass("forward", s, microbatch, before, behind));
    });
  }
  for (const { train } of Object.values(lists)) train.push({ do: "vote" });
  return lists;
}

interface Visit {
  readonly work: "forward" | "head" | "backward";
  readonly stage: number;
  readonly microbatch: number;
}

/**
 * All passes of a round in one order: that of a pipeline with a worker for each stage and links that take no time. Workers
 * take up what came first, so that frames of a link are taken in the order in which they were sent.
 */
function skipOrder(stages: number, paths: readonly (readonly number[])[]): Visit[] {
  const { spans } = routeRound(stages, paths, {
    forward: () => 1,
    backward: 2,
    head: 0.5,
    link: () => ({ latency: 0, bandwidth: Infinity }),
    bytes: 1,
    // As many microbatches under way as 1F1B has: the first stage, which all visit, begins no more.
    memory: stages,
    pause: 0,
    order: "arrival",
  });
  return spans.map(({ worker, work, microbatch }) => ({
    work: work as Visit["work"],
    stage: worker,
    microbatch,
  }));
}

/** A pass between what it waits for and where its result goes. */
function pass(
  work: "forward" | "backward",
  stage: number,
  microbatch: number,
  from: number | undefined,
  to: number | undefined,
): Operation[] {
  const what = work === "forward" ? "activation" : "gradient";
  return [
    ...(from === undefined ? [] : [{ do: "receive" as const, what, stage, peer: from, microbatch } as const]),
    { do: work, stage, microbatch },
    ...(to === undefined ? [] : [{ do: "send" as const, what, stage, peer: to, microbatch } as const]),
  ];
}
