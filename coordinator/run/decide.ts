/**
 * The decision of a step: everyone's sums of squares into one norm, everyone's losses into one loss. Pure functions; sums
 * run in the order of the parameter table and of the microbatches, so that no result depends on who holds what.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import type { Losses } from "../../mesh/control/messages.ts";
import type { Owned } from "../cost/holdings.ts";

/** What a worker says about one tensor's gradient. */
export interface TensorVote {
  readonly name: string;
  /** Sum of squares of the whole step's gradient. */
  readonly sum: number;
  readonly finite: boolean;
}

/** Outcome of a vote. */
export interface Verdict {
  /** All gradients are finite: the step counts. */
  readonly commit: boolean;
  /** Norm of the whole gradient; NaN where it is not finite. */
  readonly norm: number;
  /** Factor on every gradient: at most 1. */
  readonly clip: number;
  /** Tensors with a gradient that is not finite, in order. */
  readonly broken: readonly string[];
}

/** A vote that does not cover the worker's tensors exactly once; the message names worker and tensor. */
export class VoteError extends Error {
  override readonly name = "VoteError";
  constructor(readonly worker: string, reason: string) {
    super(reason);
  }
}

/**
 * Counts the votes of one step. `table` says who owns what; `clipNorm` is the largest norm that is left alone.
 * Throws {@linkcode VoteError} where a vote is missing, doubled, or on somebody else's tensor.
 */
export function decide(
  table: readonly Owned[],
  votes: ReadonlyMap<string, readonly TensorVote[]>,
  clipNorm: number,
): Verdict {
  const by = new Map<string, { worker: string; vote: TensorVote }>();
  for (const [worker, tensors] of votes) {
    for (const vote of tensors) {
      if (by.has(vote.name)) {
        throw new VoteError(worker, `voted on ${vote.name}, on which there is a vote already`);
      }
      by.set(vote.name, { worker, vote });
    }
  }
  let squares = 0;
  const broken: string[] = [];
  for (const tensor of table) {
    const found = by.get(tensor.name);
    if (found === undefined) throw new VoteError(tensor.owner, `did not vote on ${tensor.name}`);
    if (found.worker !== tensor.owner) {
      throw new VoteError(found.worker, `voted on ${tensor.name}, which ${tensor.owner} holds`);
    }
    by.delete(tensor.name);
    if (!found.vote.finite || !Number.isFinite(found.vote.sum) || found.vote.sum < 0) {
      broken.push(tensor.name);
    }
    squares += found.vote.sum;
  }
  for (const [name, { worker }] of by) {
    throw new VoteError(worker, `voted on ${name}, which the model does not have`);
  }
  const norm = broken.length === 0 ? Math.sqrt(squares) : NaN;
  // Finite gradients whose squares overflow f32 on the way are refused as well: a clip of 0 would hide them.
  const commit = broken.length === 0 && Number.isFinite(norm);
  return { commit, norm, clip: commit ? Math.min(1, clipNorm / (norm + 1e-6)) : 0, broken };
}

/** Losses of one round. */
export interface RoundLoss {
  /** Mean cross-entropy of the labels that count, nats. */
  readonly ce: number;
  /** Balancing loss and z-loss: sums over layers, means over microbatches. */
  readonly balance: number;
  readonly z: number;
  /** ce + coefficients * (balance, z). */
  readonly total: number;
  /** Sum of the cross-entropy, nats, and the labels that it is over. */
  readonly sum: number;
  readonly labels: number;
  /** Share of the assignments that the busiest and the idlest expert of any layer got, times the experts: 1 is balanced. */
  readonly load?: { readonly most: number; readonly least: number };
  /** By layer of the model: each expert's share of the assignments, times the experts. */
  readonly loads?: readonly (readonly number[])[];
  /** The assignments themselves. */
  readonly counts?: readonly (readonly number[])[];
}

/**
 * Adds up what the workers report of one round. The addends are f32 numbers and the sums f64, so that the order of the
 * workers does not matter; microbatches are added in order all the same.
 */
export function addLosses(
  config: ModelConfig,
  reports: Iterable<readonly Losses[]>,
  microbatches: number,
  labels: number,
): RoundLoss {
  const parts = Array.from({ length: microbatches }, () => ({ ce: 0, balance: 0, z: 0 }));
  let most = -Infinity, least = Infinity;
  const layers = new Map<number, number[]>();
  for (const report of reports) {
    for (const losses of report) {
      const part = parts[losses.microbatch];
      if (part === undefined) {
        throw new RangeError(`Losses of microbatch ${losses.microbatch} of ${microbatches}`);
      }
      part.ce += losses.ce;
      part.balance += losses.balance;
      part.z += losses.z;
      losses.load.forEach((counts, i) => {
        const layer = losses.layer + i, sum = layers.get(layer);
        layers.set(layer, sum ? sum.map((n, e) => n + (counts[e] ?? 0)) : [...counts]);
      });
    }
  }
  const all = [...layers].sort(([a], [b]) => a - b).map(([, counts]) => counts);
  const loads = all.map(evenness);
  for (const load of loads) {
    if (load.every((value) => value === 0)) continue;
    most = Math.max(most, ...load);
    least = Math.min(least, ...load);
  }
  const total = { ce: 0, balance: 0, z: 0 };
  for (const part of parts) {
    total.ce += part.ce;
    total.balance += part.balance;
    total.z += part.z;
  }
  const ce = total.ce / labels, balance = total.balance / microbatches, z = total.z / microbatches;
  return {
    ce,
    balance,
    z,
    total: ce + config.balanceCoefficient * balance + config.zCoefficient * z,
    sum: total.ce,
    labels,
    ...(most > -Infinity ? { load: { most, least }, loads, counts: all } : {}),
  };
}

/** Each expert's share of a layer's assignments, times the experts: all 1 when balanced; all 0 without any. */
function evenness(counts: readonly number[]): number[] {
  const all = counts.reduce((a, b) => a + b, 0);
  return counts.map((count) => all === 0 ? 0 : count * counts.length / all);
}
