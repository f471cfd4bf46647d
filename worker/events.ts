/**
 * What a worker tells the person who started it.
 *
 * @module
 */
import type { Losses, Profile, RoundReport } from "../mesh/control/messages.ts";

/** Something that happened in a worker, in order. */
export type WorkerEvent =
  | { readonly type: "profiled"; readonly profile: Profile }
  /** The coordinator's owner has yet to let this worker in; the reason says how. */
  | { readonly type: "waiting"; readonly reason: string }
  | { readonly type: "joined"; readonly id: string; readonly run: string }
  | {
    readonly type: "assigned";
    readonly generation: number;
    /** Spans of layers, and expert ids by layer, that this worker holds. */
    readonly layers: readonly (readonly [from: number, to: number])[];
    readonly experts: ReadonlyMap<number, readonly number[]>;
  }
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  | { readonly type: "linked"; readonly peers: readonly string[] }
  | {
    readonly type: "round";
    readonly round: number;
    readonly mode: "train" | "evaluate";
    readonly report: RoundReport;
    readonly losses: readonly Losses[];
  }
  | { readonly type: "stopped"; readonly reason: string }
  /** The generation ended here, the worker stays connected. */
  | { readonly type: "failed"; readonly reason: string };
