/**
 * The backward pass of a mixture of experts (see moe_block.ts): gradients of the experts' rows, which go where the rows went,
 * of the router, and of what all of them read.
 *
 * Legend: T rows, D hidden, E experts, k experts a token, R = T k assignments.
 *
 * @module
 */
import {
  combineBackward,
  matmulNN,
  matmulTN,
  part,
  routerBackward,
  sumRows,
  type View,
} from "../../kernels/mod.ts";
import { trained } from "../parameters.ts";
import { Scope } from "../scope.ts";
import { normBackward } from "./attention_block.ts";
import { expertsBackward } from "./held_experts.ts";
import { gatedBackward, inputGradient } from "./mlp_block.ts";
import type { MoeBlock, MoeKept } from "./moe_block.ts";
import { ask, free } from "./moe_rows.ts";
import type { Pass } from "./pass.ts";

/** A backward pass whose rows may be away. */
export interface MoeBackward {
  /** Adds the gradient of x, the input of the forward pass, to dx [T, D]. Releases what was kept. */
  finish(x: View, dx: View): Promise<void>;
}

/** Turns dy [T, D] into the gradient of x, the input of the forward pass, in place; otherwise as {@linkcode moeBackwardBegin}. */
export async function moeBackward(
  pass: Pass,
  block: MoeBlock,
  x: View,
  kept: MoeKept,
  dy: View,
): Promise<void> {
  await (await moeBackwardBegin(pass, block, kept, dy)).finish(x, dy);
}

/**
 * Begins with dy [T, D], the gradient of the experts' output, which may change behind this call, and adds to the gradients of
 * this half's tensors. These must be held for training.
 */
export async function moeBackwardBegin(
  pass: Pass,
  block: MoeBlock,
  kept: MoeKept,
  dy: View,
): Promise<MoeBackward> {
  const { device, products, weights: weightWork, rows: T, config, microbatches } = pass;
  const { hiddenSize: D, experts: E, expertsPerToken: chosen } = config;
  const R = T * chosen;
  const norm = trained(block.norm), router = trained(block.router);
  const scope = new Scope(device);
  const { weights, position } = kept;
  const drows = scope.take(R * D, "gradients of experts' outputs");
  const dweights = scope.take(R, "gradients of gate weights");
  device.run(combineBackward, { dy, rows: kept.out, weights, position, drows, dweights }, {
    rows: T,
    width: D,
    chosen,
  });
  const din = scope.take(R * D, "gradients of experts' inputs");
  const first = kept.remote ? kept.remote.offsets[block.slots.own] : R;
  let answered: Promise<void> | undefined;
  if (kept.remote && first < R) {
    const [bytes] = await device.read([part(drows, first * D, (R - first) * D)]);
    const words = new Float32Array(bytes);
    // Where one host has all of them, nothing needs to be copied.
    const whole = block.slots.remote.length === 1;
    const rowsOf = (start: number, end: number) =>
      whole ? words : words.slice((start - first) * D, (end - first) * D);
    answered = ask(pass, block, "backward", kept.remote.offsets, din, rowsOf);
    if (!whole) free(words); // the rows are made by now
    answered.catch(() => {}); // awaited below; a failure before that must not go unhandled
  }
  if (block.held !== undefined && kept.own) {
    const { rows, count } = kept.own;
    const grouped = { rows, offsets: kept.offsets, count };
    expertsBackward(device, products, weightWork, config, block.held, grouped, kept.own.kept, drows, din);
  }
  const dlogits = scope.take(T * E, "gradient of router logits");
  const { logits, experts } = kept, stats = block.balance.stats ?? kept.stats;
  device.run(routerBackward, { logits, experts, weights, dweights, stats, dlogits }, {
    rows: T,
    experts: E,
    chosen,
    balance: config.balanceCoefficient / microbatches,
    z: config.zCoefficient / microbatches,
  });
  weightWork.run(matmulTN, { a: dlogits, b: kept.normed, c: router.gradient }, {
    m: E,
    n: D,
    k: T,
    accumulate: 1,
  });
  const dshared = block.shared && kept.shared &&
    gatedBackward(pass, block.shared, kept.operand, kept.shared, dy, scope);
  return {
    async finish(x, dx) {
      if (answered) device.flush();
      await answered;
      const dnormed = scope.take(T * D, "gradient of normed input");
      device.run(sumRows, { drows: din, position, dx: dnormed }, {
        rows: T,
        width: D,
        chosen,
        accumulate: 0,
      });
      device.run(matmulNN, { a: dlogits, b: router.weight, c: dnormed }, {
        m: T,
        n: D,
        k: E,
        accumulate: 1,
      });
      if (block.shared && dshared) inputGradient(pass, block.shared, dshared, dnormed, 1);
      normBackward(pass, norm, x, kept.inverse, dnormed, dx);
      weightWork.release(scope);
      weightWork.release(kept.scope);
    },
  };
}
