/**
 * From the order in which workers compute to the simulator's steps: what a pass needs is received before it, what it made
 * leaves behind it.
 *
 * @module
 */
import type { Action } from "../schedule/schedules.ts";
import type { Piece, Step } from "./round.ts";

/** What the steps of a pipeline need to know. */
export interface PipelineSteps {
  /** Order of work by worker of the simulation. */
  readonly orders: readonly (readonly Action[])[];
  /** The worker of each stage. */
  readonly workerOf: readonly number[];
  readonly pieces: (action: Action) => readonly Piece[];
  /** Bytes of an activation or gradient from one worker to another. */
  readonly bytes: (from: number, to: number) => number;
}

/** Lists that end with a vote, as coordinator/schedule/schedule.ts makes them of operations. */
export function pipelineSteps({ orders, workerOf, pieces, bytes }: PipelineSteps): Step[][] {
  const last = workerOf.length - 1;
  return orders.map((order) => {
    const list: Step[] = [];
    for (const action of order) {
      const { work, stage, microbatch } = action;
      const forward = work === "forward", backward = work === "backward" || work === "backward-input";
      if (forward && stage > 0) list.push({ do: "receive", key: `activation ${stage} ${microbatch}` });
      if (backward && stage < last) list.push({ do: "receive", key: `gradient ${stage} ${microbatch}` });
      list.push({ do: "compute", work, stage, microbatch, pieces: pieces(action) });
      if (forward && stage < last) {
        list.push({
          do: "send",
          to: workerOf[stage + 1],
          key: `activation ${stage + 1} ${microbatch}`,
          bytes: bytes(workerOf[stage], workerOf[stage + 1]),
        });
      }
      if (backward && stage > 0) {
        list.push({
          do: "send",
          to: workerOf[stage - 1],
          key: `gradient ${stage - 1} ${microbatch}`,
          bytes: bytes(workerOf[stage], workerOf[stage - 1]),
        });
      }
    }
    list.push({ do: "vote" });
    return list;
  });
}
