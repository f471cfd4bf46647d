/**
 * What a planner is asked: a model, workers, the shape of a step, and what the recipe pins.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import type { Precision } from "../../model/precision.ts";
import type { Profile } from "../../mesh/control/messages.ts";
import type { Plan, Shape } from "../../mesh/plan.ts";
import type { Speeds } from "../../mesh/speed.ts";
import type { Codec } from "../../mesh/tensors/tensor_codec.ts";
import type { KnownLink } from "./paces.ts";
import type { ScheduleName } from "../schedule/schedules.ts";

/** A worker as the planner sees it. */
export interface Candidate {
  readonly id: string;
  /** `bandwidth` where predictions are wanted. */
  readonly profile:
    & Pick<Profile, "memory" | "deviceName" | "codecs" | "lent">
    & Speeds;
  /** Operations a second of the whole device that its steps have shown; absent: nothing is known. See paces.ts. */
  readonly shown?: number;
}

/** What to plan. */
export interface PlanRequest {
  readonly run: string;
  readonly generation: number;
  readonly config: ModelConfig;
  /** Pipelines train locally, with outer steps of these settings. */
  readonly local?: Plan["local"];
  /** What is known of the link between two workers; undefined where nobody knows anything. */
  readonly link?: (a: string, b: string) => Omit<KnownLink, "workers"> | undefined;
  /** In the order in which they joined. */
  readonly workers: readonly Candidate[];
  readonly shape: Shape;
  readonly recompute: boolean;
  /** What factors of matrix products are rounded to. Default "f32". */
  readonly precision?: Precision;
  /** What tensors are written in between workers; of several each link takes the quickest. Default "f32". */
  readonly codec?: Codec | readonly Codec[];
  /** Number of stages of each pipeline; default: as many as there are layers and workers for. */
  readonly stages?: number;
  /** Workers of each pipeline with experts only; default: those without a stage, where the model has experts. */
  readonly expertHosts?: number;
  /** Pipelines that hold the whole model each; default: one for each share that workers suffice for, else one. */
  readonly replicas?: number;
  /**
   * Microbatches of each share of a round, in the order in which their gradients are added; with fewer pipelines than
   * shares the first takes those that are left. Default: one share for each pipeline, in proportion to its speed.
   */
  readonly shares?: readonly number[];
  /** The order of passes; it also says which stages a worker has. Default "1f1b". */
  readonly schedule?: ScheduleName;
  /** Stages that each microbatch visits in training, the first always (SkipPipe); default: all. */
  readonly visits?: number;
}
