/**
 * What a run tells the world while it goes: plain JSON objects, one a line in the run's `metrics.jsonl` and on stdout under
 * `--json`; report.ts makes text for people of them.
 *
 * @module
 */
import type { LinkReport } from "../mesh/control/messages.ts";
import type { Alternative, OrderName } from "./schedule/schedules.ts";
import type { ChooseScores } from "../model/text/task_choices.ts";

/** Where a run stands. Data order is a function of the seed and `step`; AdamW's bias corrections of `committed`. */
export interface Position {
  /** Phase of the recipe, from 0. */
  readonly phase: number;
  /** Steps of this phase that are done, skipped ones included. */
  readonly step: number;
  /** Steps that changed the weights, over all phases. */
  readonly committed: number;
  /** Steps that changed the weights since the optimizer's moments began: a switch begins them anew. */
  readonly moments: number;
}

/** The loss on the validation text. */
export interface Validation {
  /** Mean negative log-likelihood per token, nats. */
  readonly nll: number | null;
  readonly bitsPerByte: number | null;
  /** Tokens that were predicted. */
  readonly tokens: number;
}

/** What a phase is expected to take, before anything begins. */
export interface PhaseEstimate {
  /** From 0. */
  readonly phase: number;
  readonly kind: "train" | "grow" | "upcycle" | "evaluate";
  /** Of the model in (or behind) this phase: all parameters, and those that a token visits. */
  readonly parameters: number;
  readonly active: number;
  readonly steps: number;
  readonly tokens: number;
  /** Floating-point operations of all workers together. */
  readonly flops: number;
  /** Predicted from the workers' profiles; loading and validation are not in it. */
  readonly seconds: number;
  /** Bytes on the worker that holds most; 0 where nobody computes. */
  readonly memory: number;
  /** Bytes of its checkpoints. */
  readonly disk: number;
}

/** The layers [from, to) of a stage. */
export interface LayerSpan {
  readonly from: number;
  readonly to: number;
  readonly embedding: boolean;
  readonly head: boolean;
}

/** A worker's part in a plan. */
export interface HeldBy {
  readonly worker: string;
  /** For people: the adapter's description. */
  readonly device: string;
  /** Place of its pipeline where there are several. */
  readonly replica?: number;
  /** "layers 0-3 with the embedding" as numbers, for each stage: none for hosts that hold no layers. */
  readonly layers: readonly LayerSpan[];
  /** Experts by layer. */
  readonly experts: readonly { readonly layer: number; readonly experts: readonly number[] }[];
  readonly parameters: number;
  readonly bytes: number;
  /** Measured operations a second of its matrix products. */
  readonly flops: number;
}

/** What one worker did in a step: shares of the step's time, bytes over its links. */
export interface WorkerStep {
  readonly worker: string;
  /** Share of the step in which its device worked. */
  readonly busy: number;
  /** Share of the step in which it waited for a frame. */
  readonly waited: number;
  readonly sent: number;
  readonly received: number;
  /** What it saw of its links; absent where it has none. */
  readonly links?: readonly LinkReport[];
}

/** Something that happened in a run. */
export type RunEvent =
  | {
    readonly event: "plan";
    readonly run: string;
    readonly folder: string;
    readonly generation: number;
    readonly parameters: number;
    readonly workers: readonly HeldBy[];
    readonly idle: readonly string[];
    readonly shape: { readonly batch: number; readonly sequence: number; readonly microbatches: number };
    readonly recompute: boolean;
    /** Seconds of a training step. */
    readonly predicted?: number;
    /** In which order passes come. */
    readonly schedule: OrderName;
    /** Schedules that were compared with it: predicted seconds of a step, or why it cannot be. */
    readonly others?: readonly Alternative[];
  }
  | {
    /** Behind a phase: what its steps took in the median, beside what was predicted for them. */
    readonly event: "pace";
    readonly phase: number;
    /** Steps that count: the first ones compile. */
    readonly steps: number;
    readonly measured: number;
    readonly predicted: number;
  }
  | {
    readonly event: "barrier";
    readonly stage: "loading" | "linking" | "ready";
    readonly generation: number;
  }
  | { readonly event: "resumed"; readonly from: string; readonly position: Position }
  /** Local training goes on with another number of replicas: its outer momentum begins anew. */
  | { readonly event: "replicas"; readonly saved: number; readonly now: number }
  | {
    readonly event: "estimate";
    readonly phases: readonly PhaseEstimate[];
    /** Tokens of all training, and how often that reads the text. */
    readonly tokens: number;
    readonly epochs: number;
    readonly seconds: number;
    readonly disk: number;
    /** Bytes that are free where the run's folder lies; null where nobody knows. */
    readonly free: number | null;
  }
  /** Text that is prepared, in words for people. */
  | { readonly event: "prepare"; readonly text: string }
  /** What was learned of workers and links could not be written down. */
  | { readonly event: "unkept"; readonly text: string }
  | {
    readonly event: "switch";
    /** The phase that switched, from 0. */
    readonly phase: number;
    readonly kind: "grow" | "upcycle";
    /** What was done, for people. */
    readonly lines: readonly string[];
    /** The function stays, up to rounding. */
    readonly exact: boolean;
    readonly parameters: { readonly before: number; readonly after: number; readonly active: number };
    /** The loss on the same validation text; null where the recipe asks for no validation. */
    readonly before: Validation | null;
    readonly after: Validation | null;
  }
  /** Shares of each layer's assignments that its experts got in a step, times the experts: 1 is balanced. */
  | {
    readonly event: "experts";
    readonly phase: number;
    readonly step: number;
    readonly load: readonly (readonly number[])[];
  }
  | {
    readonly event: "step";
    readonly phase: number;
    /** From 1. */
    readonly step: number;
    readonly steps: number;
    readonly committed: boolean;
    /** Total loss, and its parts: ce in nats per label, balance and z before their coefficients. */
    readonly loss: number | null;
    readonly ce: number | null;
    readonly balance: number | null;
    readonly z: number | null;
    /** Norm of the gradient and the factor that clipping gave it. */
    readonly norm: number | null;
    readonly clip: number;
    readonly learningRate: number;
    readonly tokens: number;
    /** Floating-point operations of the step, over all workers. */
    readonly flops: number;
    readonly seconds: number;
    readonly tokensPerSecond: number;
    readonly secondsLeft: number;
    /** Share of the busiest and the idlest expert times the experts: 1 is balanced. */
    readonly load?: { readonly most: number; readonly least: number };
    readonly workers: readonly WorkerStep[];
    /** Tensors whose gradient was not finite (the first few), where the step was skipped. */
    readonly broken?: readonly string[];
  }
  | (Validation & {
    readonly event: "evaluation";
    readonly phase: number;
    /** After this many steps. */
    readonly step: number;
  })
  | {
    /** A file of tasks that an evaluate phase put to the model. */
    readonly event: "tasks";
    readonly phase: number;
    readonly file: string;
    readonly scores: ChooseScores;
  }
  | {
    readonly event: "checkpoint";
    readonly position: Position;
    readonly path: string;
    readonly seconds: number;
  }
  | { readonly event: "done"; readonly position: Position; readonly path: string; readonly seconds: number }
  /** Behind the end: lines, event file or report could not be written (a full disk, say). Checkpoints are another matter. */
  | { readonly event: "unrecorded"; readonly folder: string; readonly reason: string }
  /** A fault of this program itself; what ended is told by "stopped" behind it. */
  | { readonly event: "bug"; readonly stack: string }
  | {
    readonly event: "stopped";
    /** "asked": by its user, after a checkpoint. "failed": see the reason. */
    readonly why: "asked" | "failed";
    readonly name: string;
    readonly reason: string;
    /** The last checkpoint, if there is one, and the command that resumes from it. */
    readonly path: string | null;
    readonly resume: string | null;
  };

/** How a run ended: with its last event, which was told as well. */
export type Outcome = Extract<RunEvent, { event: "done" | "stopped" }>;

/** JSON has no NaN: null stands for a number that is not finite. */
export function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
