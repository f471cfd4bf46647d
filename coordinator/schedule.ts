/**
 * Operation lists: in which order each worker computes, sends and receives within a round.
 *
 * @module
 */
import type { Operation, Plan, Stage } from "../mesh/plan.ts";

/** What the lists depend on. */
export interface ScheduleOptions {
  readonly stages: readonly Stage[];
  readonly microbatches: number;
  /** Whether embedding and head are one tensor. */
  readonly tied: boolean;
  /** Workers that hold only experts: they answer their peers' requests and vote. */
  readonly hosts: readonly string[];
}

/**
 * One-forward-one-backward for training, forward only for evaluation. A stage runs as many forward passes ahead as
 * there are stages behind it and then alternates, so that it holds at most `stages - s` microbatches. Backward passes
 * come in order of microbatch on every stage: gradients are added in that order.
 */
export function schedule(options: ScheduleOptions): Plan["operations"] {
  const { stages, hosts, tied } = options;
  const lists: Plan["operations"] = {};
  const embedding = stages.findIndex((stage) => stage.embedding),
    head = stages.findIndex((stage) => stage.head);
  const split = tied && stages[embedding].worker !== stages[head].worker;
  stages.forEach((stage, s) => {
    if (Object.hasOwn(lists, stage.worker)) {
      throw new Error(
        `Worker ${stage.worker} holds more than one stage: this schedule gives each worker one`,
      );
    }
    const train = [
      ...oneForwardOneBackward(s, stages.length, options.microbatches),
      ...(split ? tie("tied-gradient", s, head, embedding) : []),
      { do: "vote" } as const,
      ...(split ? tie("tied-weight", s, embedding, head) : []),
    ];
    lists[stage.worker] = { train, evaluate: forwardOnly(s, stages.length, options.microbatches) };
  });
  for (const host of hosts) lists[host] = { train: [{ do: "vote" }], evaluate: [] };
  return lists;
}

function oneForwardOneBackward(s: number, stages: number, microbatches: number): Operation[] {
  const list: Operation[] = [];
  const ahead = Math.min(microbatches, stages - 1 - s);
  for (let m = 0; m < ahead; m++) list.push(...forward(s, stages, m));
  for (let m = ahead; m < microbatches; m++) {
    list.push(...forward(s, stages, m), ...backward(s, stages, m - ahead));
  }
  for (let m = microbatches - ahead; m < microbatches; m++) list.push(...backward(s, stages, m));
  return list;
}

function forwardOnly(s: number, stages: number, microbatches: number): Operation[] {
  return Array.from({ length: microbatches }, (_, m) => forward(s, stages, m)).flat();
}

function forward(stage: number, stages: number, microbatch: number): Operation[] {
  const what = "activation";
  const list: Operation[] = [];
  if (stage > 0) list.push({ do: "receive", what, stage, peer: stage - 1, microbatch });
  list.push({ do: "forward", stage, microbatch });
  if (stage < stages - 1) list.push({ do: "send", what, stage, peer: stage + 1, microbatch });
  return list;
}

function backward(stage: number, stages: number, microbatch: number): Operation[] {
  const what = "gradient";
  const list: Operation[] = [];
  if (stage < stages - 1) list.push({ do: "receive", what, stage, peer: stage + 1, microbatch });
  list.push({ do: "backward", stage, microbatch });
  if (stage > 0) list.push({ do: "send", what, stage, peer: stage - 1, microbatch });
  return list;
}

/** The part of stage `s` in a transfer of a tied tensor from stage `from` to stage `to`. */
function tie(what: "tied-gradient" | "tied-weight", s: number, from: number, to: number): Operation[] {
  if (s === from) return [{ do: "send", what, stage: s, peer: to }];
  if (s === to) return [{ do: "receive", what, stage: s, peer: from }];
  return [];
}
