/**
 * The second half of a mixture-of-experts layer: y = x + sum over the chosen experts of weight * expert(norm(x)),
 * plus shared(norm(x)) where there is a shared expert: an MLP that every token visits.
 *
 * Rows of experts that live elsewhere leave in the middle of the pass and come back unweighted; this device weights and
 * adds all rows in order of rank, so that nothing depends on where an expert lives or who answers first. The shared expert
 * lives with the stage and is added last; all but that addition is computed while others' answers are under way.
 *
 * What the two passes (moe_forward.ts, moe_backward.ts) share stands here.
 *
 * Legend: T rows, D hidden, E experts, k experts a token, R = T k assignments, slot = an expert's place by host.
 *
 * @module
 */
import { part, type View } from "../../kernels/mod.ts";
import type { BoundBlock } from "../parameters.ts";
import type { Scope } from "../scope.ts";
import type { ExpertsKept, HeldExperts } from "./held_experts.ts";
import type { GatedKept, GatedMlp } from "./mlp_block.ts";
import type { Asking } from "./moe_rows.ts";
import type { Pass } from "./pass.ts";

/** The tensors of this half and where its experts are. */
export interface MoeBlock extends Asking {
  readonly norm: BoundBlock;
  /** [E, D] */
  readonly router: BoundBlock;
  /** The expert that every token visits; undefined where the model has none. */
  readonly shared: GatedMlp | undefined;
  /** This device's experts of the layer. */
  readonly held: HeldExperts | undefined;
  /** u32 [E], `slots.slotOf` on the device. */
  readonly slotOf: View;
  /** Where balancing looks at more than a microbatch: statistics whose f is of all of it. See {@linkcode Balance}. */
  readonly balance: Balance;
}

/**
 * What experts of a layer are balanced over. Without `stats` each microbatch is for itself; with them f of the balancing
 * loss is the share of assignments in the whole batch of the step before, P stays the microbatch's own, and the gradient
 * goes through P only (Qiu et al., "Demons in the Detail", 2025).
 */
export interface Balance {
  /** f32 [2E + 1] */
  stats?: View;
  /** The same f, f32 [E], on the host. */
  shares?: Float32Array<ArrayBuffer>;
}

/** Rows that other workers answered. */
export interface MoeReplay {
  /** First row of each slot, and the end: u32 [E + 1] on the host. */
  readonly offsets: Uint32Array<ArrayBuffer>;
  /** The answers [rows of other hosts, D], where all else is computed again. */
  readonly answers?: View;
}

/** What the backward pass needs, in `scope`. */
export interface MoeKept {
  readonly scope: Scope;
  /** f32 [T, D]: what the router sees. */
  readonly normed: View;
  /** The same as an operand: what the experts see. */
  readonly operand: View;
  /** [T] */
  readonly inverse: View;
  /** [T, E] */
  readonly logits: View;
  /** [R] */
  readonly weights: View;
  /** u32 [R] */
  readonly experts: View;
  /** u32 [R]: the row of each assignment. */
  readonly position: View;
  /** u32 [E + 1] */
  readonly offsets: View;
  /** [2E + 1], not in `scope`. */
  readonly stats: View;
  /** Rows that stayed here (operand [at least count, D]); absent where there is none. */
  readonly own: { readonly rows: View; readonly count: number; readonly kept: ExpertsKept } | undefined;
  /** All rows' outputs [R, D]. */
  readonly out: View;
  readonly remote: MoeReplay | undefined;
  readonly shared: GatedKept | undefined;
}

/** f32 words of the statistics of one layer's router with so many experts (see the kernel `routerStats`). */
export function statsWords(experts: number): number {
  return 2 * experts + 1;
}

/** Releases what a forward pass kept but for what other workers answered (the caller's), for a pass that is computed again. */
export function shrink(pass: Pass, block: MoeBlock, kept: MoeKept): MoeReplay | undefined {
  const { device, config } = pass;
  let left: MoeReplay | undefined;
  if (kept.remote) {
    const first = kept.remote.offsets[block.slots.own] * config.hiddenSize;
    const words = pass.rows * config.expertsPerToken * config.hiddenSize - first;
    if (words > 0) {
      const answers = device.allocate(words, "answers of other workers");
      device.copy(part(kept.out, first, words), answers);
      left = { offsets: kept.remote.offsets, answers };
    } else {
      left = { offsets: kept.remote.offsets };
    }
  }
  kept.scope.release();
  return left;
}
