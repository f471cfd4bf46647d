/**
 * Where frames of the pipeline wait until an operation takes them. The sender's credit comes back on taking, so that
 * what waits here never exceeds what was granted.
 *
 * @module
 */
import type { FrameHeader, What } from "../mesh/tensors/frame.ts";
import type { Operation, Slice } from "../mesh/plan.ts";
import { GenerationOverError, PlanViolationError } from "./errors.ts";
import type { Bundle } from "./replica_bundles.ts";
import { piecesOf, type Sizes } from "./sizes.ts";

/** A frame that the plan lets a peer send in every round of a mode. */
interface Expected {
  readonly peer: string;
  readonly bytes: number;
}

interface Waiting {
  readonly evaluate: boolean;
  readonly peer: string;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly consumed: () => void;
}

interface Taker {
  resolve(payload: Uint8Array<ArrayBuffer>): void;
  reject(error: Error): void;
}

/** Which frame of a round an operation wants; see the fields of a frame's header. */
export interface FrameKey {
  readonly what: What;
  readonly index: number;
  readonly microbatch: number;
  readonly sequence: number;
  /** Only where several workers of one pipeline send the same: those of replicas. */
  readonly peer?: string;
}

const keyOf = ({ what, index, microbatch, sequence, peer = "" }: FrameKey) =>
  `${what} ${index} ${microbatch} ${sequence} ${peer}`;

/** Whether frames of a kind are told apart by who sends them. */
const fromReplica = (what: What) => what.startsWith("replica-");

/** The frames that a list of operations takes from others, by key. */
function expectedFrames(
  slice: Slice,
  sizes: Sizes,
  operations: readonly Operation[],
  bundles: readonly Bundle[],
): Map<string, Expected> {
  const expected = new Map<string, Expected>();
  let share = 0;
  for (const operation of operations) {
    if (operation.do === "fold") share++;
    const exchange = {
      reduce: { toOwner: "replica-gradient", fromOwner: undefined },
      spread: { toOwner: undefined, fromOwner: "replica-weight" },
      outer: { toOwner: "replica-delta", fromOwner: "replica-weight" },
    } as const;
    if (operation.do === "reduce" || operation.do === "spread" || operation.do === "outer") {
      const { toOwner, fromOwner } = exchange[operation.do];
      for (const { owned, peer, pipeline, layer, words } of bundles) {
        const what = owned ? toOwner : fromOwner;
        if (what === undefined) continue;
        piecesOf(words).forEach(({ length }, sequence) => {
          const key = keyOf({ what, index: layer + 1, microbatch: pipeline, sequence, peer });
          expected.set(key, { peer, bytes: length * 4 });
        });
      }
    }
    if (operation.do !== "receive") continue;
    const peer = slice.stages[operation.peer]?.worker;
    if (peer === undefined || peer === slice.self) continue;
    const { what, stage: index } = operation;
    if (what === "activation" || what === "gradient") {
      const key = keyOf({ what, index, microbatch: operation.microbatch, sequence: 0 });
      expected.set(key, { peer, bytes: sizes.activationBytes });
    } else {
      const microbatch = what === "tied-gradient" ? share : 0;
      piecesOf(sizes.tied.words).forEach(({ length }, sequence) => {
        expected.set(keyOf({ what, index, microbatch, sequence }), { peer, bytes: length * 4 });
      });
    }
  }
  return expected;
}

/** Frames of activations, gradients and tied tensors, by round and key. */
export class Inbox {
  readonly #expected: { readonly train: Map<string, Expected>; readonly evaluate: Map<string, Expected> };
  /** By round, then by key. Rounds ahead of ours are there as far as credit reaches. */
  readonly #waiting = new Map<number, Map<string, Waiting>>();
  readonly #takers = new Map<string, Taker>();
  /** Keys taken in the current round: a second frame of the same key is a duplicate. */
  #taken = new Set<string>();
  #round = -1;
  #evaluate = false;
  #over: Error | undefined;
  /** Frames dropped since the start: of rounds that are over, or a second time. */
  stale = 0;
  duplicates = 0;

  /** `bundles`: what the worker exchanges with other pipelines. */
  constructor(slice: Slice, sizes: Sizes, bundles: readonly Bundle[] = []) {
    this.#expected = {
      train: expectedFrames(slice, sizes, slice.operations.train, bundles),
      evaluate: expectedFrames(slice, sizes, slice.operations.evaluate, bundles),
    };
  }

  /**
   * From now on earlier rounds are over; frames of theirs that nobody took are dropped and counted. Throws
   * {@linkcode PlanViolationError} where a peer took the round for one of the other mode.
   */
  enter(round: number, evaluate: boolean): void {
    this.#round = round;
    this.#evaluate = evaluate;
    this.#taken = new Set();
    for (const [past, frames] of this.#waiting) {
      if (past >= round) continue;
      for (const frame of frames.values()) {
        this.stale++;
        frame.consumed();
      }
      this.#waiting.delete(past);
    }
    for (const frame of this.#waiting.get(round)?.values() ?? []) this.#checkMode(frame);
  }

  #checkMode({ peer, evaluate }: { readonly peer: string; readonly evaluate: boolean }): void {
    if (evaluate === this.#evaluate) return;
    const mode = (value: boolean) => value ? "evaluates" : "trains";
    throw new PlanViolationError(
      `${peer} sent a frame as if round ${this.#round} ${mode(evaluate)}, but it ${mode(this.#evaluate)}`,
    );
  }

  /** Takes in a frame from `peer`. Throws {@linkcode PlanViolationError} for one that the plan does not know. */
  deliver(peer: string, header: FrameHeader, payload: Uint8Array<ArrayBuffer>, consumed: () => void): void {
    const mode = header.evaluate ? "evaluate" : "train";
    const key = keyOf(fromReplica(header.what) ? { ...header, peer } : header);
    const expected = this.#expected[mode].get(key);
    const what = fromReplica(header.what)
      ? `${header.what} of place ${header.index}, pipeline ${header.microbatch}`
      : `${header.what} for stage ${header.index}, microbatch ${header.microbatch}`;
    if (expected === undefined || expected.peer !== peer) {
      throw new PlanViolationError(`${peer} sent ${what} (${mode}): the plan has no such transfer from it`);
    }
    if (payload.length !== expected.bytes) {
      throw new PlanViolationError(
        `${peer} sent ${what} with ${payload.length} bytes: the plan says ${expected.bytes}`,
      );
    }
    if (header.round < this.#round || this.#over !== undefined) {
      this.stale++;
      return consumed();
    }
    if (header.round === this.#round) {
      this.#checkMode({ peer, evaluate: header.evaluate });
      const taker = this.#takers.get(key);
      if (taker !== undefined) {
        this.#takers.delete(key);
        this.#taken.add(key);
        consumed();
        return taker.resolve(payload);
      }
      if (this.#taken.has(key)) {
        this.duplicates++;
        return consumed();
      }
    }
    let frames = this.#waiting.get(header.round);
    if (frames === undefined) this.#waiting.set(header.round, frames = new Map());
    if (frames.has(key)) {
      this.duplicates++;
      return consumed();
    }
    frames.set(key, { evaluate: header.evaluate, peer, payload, consumed });
  }

  /** The frame of the current round with this key, once it is there. Each may be taken once. */
  take(frame: FrameKey): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const key = keyOf(frame), waiting = this.#waiting.get(this.#round)?.get(key);
    if (waiting !== undefined) {
      this.#waiting.get(this.#round)!.delete(key);
      this.#taken.add(key);
      waiting.consumed();
      return Promise.resolve(waiting.payload);
    }
    return new Promise((resolve, reject) => this.#takers.set(key, { resolve, reject }));
  }

  /** Ends all waiting. */
  close(error: GenerationOverError): void {
    this.#over = error;
    for (const taker of this.#takers.values()) taker.reject(error);
    this.#takers.clear();
    for (const frames of this.#waiting.values()) for (const frame of frames.values()) frame.consumed();
    this.#waiting.clear();
  }
}
