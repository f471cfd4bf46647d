/**
 * Pipeline schedules: in which order each worker computes. Legend: p workers in the pipeline, v stages on each, m
 * microbatches.
 *
 * - GPipe: Huang et al. 2019.
 * - 1F1B and its interleaved form: Narayanan et al. 2021 (Megatron-LM).
 * - Eager 1F1B, with more microbatches under way to hide slow links: Zhuang et al. 2023, "On optimizing the communication
 *   of model parallelism".
 * - Zero-bubble V: Qi et al. 2024, "Pipeline parallelism with controllable memory" and "Zero bubble pipeline parallelism".
 *
 * @module
 */
import { CoordinatorError } from "../errors.ts";

/** A schedule that cannot be made with these numbers; the message says which would do. */
export class ScheduleError extends CoordinatorError {
  override readonly name = "ScheduleError";
}

/** Schedules by name. */
export type ScheduleName = "gpipe" | "1f1b" | "eager-1f1b" | "interleaved" | "zero-bubble-v";

/** The order of a plan's passes; "skippipe" where microbatches leave stages out. */
export type OrderName = ScheduleName | "skippipe";

/** A schedule beside the one that was taken: its predicted seconds of a step, or why it cannot be. */
export interface Alternative {
  readonly schedule: OrderName;
  readonly seconds?: number;
  readonly why?: string;
}

/** All schedules. */
export const scheduleNames: readonly ScheduleName[] = [
  "gpipe",
  "1f1b",
  "eager-1f1b",
  "interleaved",
  "zero-bubble-v",
];

/**
 * A pass over one microbatch. Zero-bubble schedules split the backward pass into the gradient of the input, which the
 * stage before waits for, and those of the weights.
 */
export interface Action {
  readonly work: "forward" | "backward" | "backward-input" | "backward-weight";
  readonly stage: number;
  readonly microbatch: number;
}

/** Sizes of a pipeline. */
export interface PipelineSizes {
  /** Workers in the pipeline. */
  readonly workers: number;
  readonly microbatches: number;
  /** Stages on each worker: 1 for GPipe and 1F1B, 2 for zero-bubble V, at least 2 for interleaved. */
  readonly chunks: number;
}

/** Stages that a schedule puts on each worker unless told otherwise. */
export function defaultChunks(name: ScheduleName): number {
  return name === "interleaved" || name === "zero-bubble-v" ? 2 : 1;
}

/** The worker (by its place in the pipeline) of each stage. */
export function placement(
  name: ScheduleName,
  { workers: p, chunks: v }: Pick<PipelineSizes, "workers" | "chunks">,
): number[] {
  return Array.from({ length: p * v }, (_, s) => name === "zero-bubble-v" && s >= p ? 2 * p - 1 - s : s % p);
}

/**
 * The order of work of each worker. Backward passes (and weight gradients) of a stage come in order of microbatch in
 * every schedule, so all of them add gradients in the same order. Throws {@linkcode ScheduleError}.
 */
export function actions(name: ScheduleName, pipeline: PipelineSizes): Action[][] {
  const { workers: p, microbatches: m, chunks: v } = pipeline;
  if (name !== "interleaved" && v !== defaultChunks(name)) {
    throw new ScheduleError(
      `The schedule ${name} has ${defaultChunks(name)} stages on each worker, not ${v}.`,
    );
  }
  if (name === "interleaved" && (m % p !== 0 || v < 2)) {
    throw new ScheduleError(
      `The interleaved schedule needs a number of microbatches that ${p} workers divide and at least 2 stages on each: ` +
        `${m} microbatches and ${v} stages do not fit. Use ${p * Math.ceil(m / p)} microbatches, or 1f1b.`,
    );
  }
  return Array.from({ length: p }, (_, worker) => {
    switch (name) {
      case "gpipe":
        return gpipe(worker, m);
      case "1f1b":
        return oneForwardOneBackward(worker, m, p - 1 - worker);
      case "eager-1f1b":
        return oneForwardOneBackward(worker, m, 2 * (p - 1 - worker));
      case "interleaved":
        return interleaved(worker, pipeline);
      case "zero-bubble-v":
        return zeroBubbleV(worker, p, m);
    }
  });
}

function gpipe(stage: number, m: number): Action[] {
  const of = (work: Action["work"]) =>
    Array.from({ length: m }, (_, microbatch) => ({ work, stage, microbatch }));
  return [...of("forward"), ...of("backward")];
}

type Place = Omit<Action, "work">;

function oneForwardOneBackward(stage: number, m: number, ahead: number): Action[] {
  const place = (microbatch: number): Place => ({ stage, microbatch });
  return alternating(m, ahead, place, place);
}

/** `ahead` forward passes, then one forward and one backward in turn, then the backward passes that are left. */
function alternating(
  passes: number,
  ahead: number,
  forward: (k: number) => Place,
  backward: (k: number) => Place,
): Action[] {
  const list: Action[] = [], first = Math.min(passes, ahead);
  for (let k = 0; k < first; k++) list.push({ work: "forward", ...forward(k) });
  for (let k = first; k < passes; k++) {
    list.push({ work: "forward", ...forward(k) }, { work: "backward", ...backward(k - first) });
  }
  for (let k = passes - first; k < passes; k++) list.push({ work: "backward", ...backward(k) });
  return list;
}

/** Groups of p microbatches go through a worker's first stage, then its second, and so on; backward in reverse. */
function interleaved(worker: number, { workers: p, microbatches: m, chunks: v }: PipelineSizes): Action[] {
  const place = (k: number, forward: boolean): Place => {
    const chunk = Math.floor(k / p) % v;
    return {
      stage: (forward ? chunk : v - 1 - chunk) * p + worker,
      microbatch: Math.floor(k / (p * v)) * p + k % p,
    };
  };
  const ahead = 2 * (p - worker - 1) + (v - 1) * p;
  return alternating(m * v, ahead, (k) => place(k, true), (k) => place(k, false));
}

/**
 * Stage w and stage 2p - 1 - w on worker w, so that the first worker has both ends. With equal times for forward, input
 * and weight passes there is no idle slot from m = 2p - 1 microbatches on.
 */
function zeroBubbleV(worker: number, p: number, m: number): Action[] {
  const list: Action[] = [], down = worker, up = 2 * p - 1 - worker;
  const counts = new Map<string, number>();
  /** The next microbatch of this work on this stage; beyond the last one there is nothing to do. */
  const next = (work: Action["work"], stage: number) => {
    const key = `${work} ${stage}`, microbatch = counts.get(key) ?? 0;
    counts.set(key, microbatch + 1);
    if (microbatch < m) list.push({ work, stage, microbatch });
  };
  const count = (work: Action["work"], stage: number) => counts.get(`${work} ${stage}`) ?? 0;
  const both = (stage: number) => {
    next("backward-input", stage);
    next("backward-weight", stage);
  };
  // Shorter rounds than the schedule's own are its longer ones with holes.
  const rounds = Math.max(m, 2 * p - 1);
  for (let i = 0; i < 2 * (p - worker) - 1; i++) next("forward", down);
  for (let i = 0; i < worker; i++) {
    next("forward", up);
    next("forward", down);
  }
  for (let i = worker; i < p; i++) {
    next("forward", up);
    both(up);
  }
  while (count("forward", up) < count("forward", down) || count("forward", down) < rounds) {
    if (count("forward", down) < rounds) next("forward", down);
    both(down);
    next("forward", up);
    both(up);
  }
  // The way out: what others wait for first, weights where there is room.
  for (let i = 0; i < worker; i++) {
    next("backward-input", down);
    next("backward-input", up);
  }
  for (let i = worker; i < p; i++) both(down);
  while (count("backward-weight", up) < count("backward-input", up)) next("backward-weight", up);
  while (count("backward-weight", down) < count("backward-input", down)) next("backward-weight", down);
  return list;
}

/** What a stage keeps of one microbatch, in any unit. */
export interface Keeps {
  /** From the forward pass to the backward pass, or to its first half. */
  readonly kept: number;
  /** Between the halves of a split backward pass. */
  readonly halved: number;
}

/** The most that the stages of one worker keep at once. */
export function mostKept(
  list: readonly Pick<Action, "work" | "stage">[],
  of: (stage: number) => Keeps,
): number {
  let held = 0, most = 0;
  for (const { work, stage } of list) {
    const { kept, halved } = of(stage);
    switch (work) {
      case "forward":
        held += kept;
        break;
      case "backward":
        held -= kept;
        break;
      case "backward-input":
        held += halved - kept;
        break;
      case "backward-weight":
        held -= halved;
        break;
    }
    most = Math.max(most, held);
  }
  return most;
}
