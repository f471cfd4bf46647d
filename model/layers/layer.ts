/**
 * One layer: attention, then an MLP or a mixture of experts, and what is kept of it between the two passes.
 *
 * @module
 */
import type { View } from "../../kernels/mod.ts";
import {
  attentionBackward,
  type AttentionBlock,
  attentionBlock,
  attentionForward,
  type AttentionKept,
} from "./attention_block.ts";
import { mlpBackward, type MlpBlock, mlpBlock, mlpForward, type MlpKept } from "./mlp_block.ts";
import { moeBackward } from "./moe_backward.ts";
import { type MoeBlock, type MoeKept, type MoeReplay, shrink } from "./moe_block.ts";
import { moeForward } from "./moe_forward.ts";
import type { Parameters } from "../parameters.ts";
import type { Pass } from "./pass.ts";

/** Everything that a layer's backward pass needs besides its input. */
export interface FullLayer {
  readonly attention: AttentionKept;
  /** [T, D], the output of the first half. */
  readonly between: View;
  readonly mlp?: MlpKept;
  readonly moe?: MoeKept;
}

/** A layer between its two passes: in full, or only what computing it again needs. */
export interface KeptLayer {
  /** [T, D], the input. */
  readonly x: View;
  readonly full?: FullLayer;
  readonly replay?: MoeReplay;
}

/** The passes of one layer. */
export class Layer {
  readonly #attention: AttentionBlock;
  readonly #mlp: MlpBlock | undefined;
  readonly #moe: MoeBlock | undefined;

  /** `moe` makes it a mixture of experts. */
  constructor(parameters: Parameters, layer: number, moe: MoeBlock | undefined) {
    this.#attention = attentionBlock(parameters, layer);
    this.#mlp = moe ? undefined : mlpBlock(parameters, layer);
    this.#moe = moe;
  }

  /** y [T, D] and what was kept; x stays the caller's. `stats` is written where there are experts. */
  async forward(
    pass: Pass,
    x: View,
    stats: () => View,
    replay?: MoeReplay,
  ): Promise<{ y: View; full: FullLayer }> {
    const { y: between, kept: attention } = attentionForward(pass, this.#attention, x);
    if (this.#mlp) {
      const { y, kept: mlp } = mlpForward(pass, this.#mlp, between);
      return { y, full: { attention, between, mlp } };
    }
    const { y, kept: moe } = await moeForward(pass, this.#moe!, between, stats(), replay);
    return { y, full: { attention, between, moe } };
  }

  /** Releases all that was kept, but for what computing it again needs where `replayed` says so. */
  forget(pass: Pass, { attention, between, mlp, moe }: FullLayer, replayed: boolean): MoeReplay | undefined {
    attention.scope.release();
    mlp?.scope.release();
    pass.device.release(between);
    if (moe && replayed) return shrink(pass, this.#moe!, moe);
    moe?.scope.release();
    return undefined;
  }

  /** Computes again what was not kept. */
  async again(pass: Pass, x: View, stats: () => View, replay: MoeReplay | undefined): Promise<FullLayer> {
    const { y, full } = await this.forward(pass, x, stats, replay);
    pass.device.release(y);
    if (replay?.answers) pass.device.release(replay.answers);
    return full;
  }

  /** Turns dy [T, D] into dx in place and adds to the gradients. Releases what was kept but x, and is no longer needed. */
  async backward(pass: Pass, x: View, { attention, between, mlp, moe }: FullLayer, dy: View): Promise<void> {
    if (this.#mlp) mlpBackward(pass, this.#mlp, between, mlp!, dy);
    else await moeBackward(pass, this.#moe!, between, moe!, dy);
    pass.weights.discard(between);
    attentionBackward(pass, this.#attention, x, attention, dy);
  }
}
