/**
 * What a report consists of.
 *
 * @module
 */
import type { ChooseScores } from "../../model/text/task_choices.ts";
import type { RunEvent, Validation } from "../events.ts";
import type { Savings } from "./savings.ts";

/** Where a curve's point lies: training so far, over all phases. */
export interface Progress {
  readonly phase: number;
  /** Of its phase, from 1. */
  readonly step: number;
  readonly tokens: number;
  /** Floating-point operations. */
  readonly flops: number;
  /** Seconds of steps, over all phases. */
  readonly seconds: number;
}

/** Training behind a step, or the mean of some. */
export interface TrainPoint extends Progress {
  readonly loss: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
}

/** A validation; `tokens` are those of training. */
export type ValidationPoint = Progress & Pick<Validation, "nll" | "bitsPerByte">;

/** A switch, with its place on the curves. */
export type SwitchPoint = Progress & Omit<Extract<RunEvent, { event: "switch" }>, "event" | "phase">;

/** Loads of experts by layer; 1 is an even share. */
export interface LoadPoint extends Progress {
  readonly load: readonly (readonly number[])[];
}

/** One phase of training as it went. */
export interface PhaseSummary {
  readonly phase: number;
  readonly steps: number;
  readonly parameters: number;
  readonly workers: number;
  /** Measured operations a second of all its workers' matrix products. */
  readonly speed: number;
  readonly tokens: number;
  readonly flops: number;
  readonly seconds: number;
  /** The last validation in it. */
  readonly validation: Pick<Validation, "nll" | "bitsPerByte"> | null;
}

/** A whole report. */
export interface ReportData {
  readonly name: string;
  readonly state: "done" | "stopped" | "under way";
  readonly total: Omit<Progress, "phase">;
  readonly phases: readonly PhaseSummary[];
  readonly training: readonly TrainPoint[];
  readonly validations: readonly ValidationPoint[];
  readonly switches: readonly SwitchPoint[];
  readonly experts: readonly LoadPoint[];
  /** Tasks of evaluate phases. */
  readonly tasks: readonly (Progress & { readonly file: string; readonly scores: ChooseScores })[];
  readonly workers: readonly { readonly worker: string; readonly device: string }[];
  readonly estimate: Extract<RunEvent, { event: "estimate" }> | null;
  readonly savings: SavingsReport | null;
}

/** The saving factors and how they came about. */
export interface SavingsReport extends Savings {
  /** "measured": against a run that was made. "extrapolated": against the stated extrapolation. */
  readonly against: "measured" | "extrapolated";
  /** Operations of the steps themselves, from scratch / recipe. */
  readonly arithmetic: number;
  /** For people: what is compared, and what is not in it. */
  readonly notes: readonly string[];
}
