/**
 * The second half of a dense layer: y = x + down(silu(gate(norm(x))) * up(norm(x))).
 *
 * Legend: T rows, D hidden, F width of the MLP.
 *
 * @module
 */
import {
  matmulNN,
  matmulNT,
  matmulNTAdd,
  matmulTN,
  rmsNorm,
  swiglu,
  swigluBackward,
  type View,
} from "../kernels/mod.ts";
import { normBackward } from "./attention_block.ts";
import { type BoundBlock, type Parameters, trained } from "./parameters.ts";
import type { Pass } from "./pass.ts";
import { Scope } from "./scope.ts";

/** The tensors of this half. */
export interface MlpBlock {
  readonly norm: BoundBlock;
  readonly gateUp: BoundBlock;
  readonly down: BoundBlock;
}

/** Finds the tensors of layer `layer`. */
export function mlpBlock(parameters: Parameters, layer: number): MlpBlock {
  return {
    norm: parameters.block("post-norm", layer),
    gateUp: parameters.block("gate-up", layer),
    down: parameters.block("down", layer),
  };
}

/** What the backward pass needs, in `scope`. */
export interface MlpKept {
  readonly scope: Scope;
  /** [T, D] */
  readonly normed: View;
  /** [T] */
  readonly inverse: View;
  /** [T, 2F] */
  readonly gateUp: View;
  /** [T, F] */
  readonly inner: View;
}

/** y [T, D] and what was kept; x stays the caller's. */
export function mlpForward(pass: Pass, block: MlpBlock, x: View): { y: View; kept: MlpKept } {
  const { device, rows: T, config } = pass;
  const { hiddenSize: D, intermediateSize: F, rmsNormEps: eps } = config;
  const scope = new Scope(device);
  const normed = scope.take(T * D, "normed input");
  const inverse = scope.take(T, "inverse norms");
  device.run(rmsNorm, { x, gain: block.norm.weight, y: normed, inverse }, { rows: T, width: D, eps });
  const gateUp = scope.take(T * 2 * F, "gate and up");
  device.run(matmulNT, { a: normed, b: block.gateUp.weight, c: gateUp }, {
    m: T,
    n: 2 * F,
    k: D,
    accumulate: 0,
  });
  const inner = scope.take(T * F, "gated values");
  device.run(swiglu, { gu: gateUp, offsets: pass.span, y: inner }, {
    rows: T,
    width: F,
    first: 0,
    groups: 1,
  });
  const y = device.allocate(T * D, "layer output");
  device.run(matmulNTAdd, { a: inner, b: block.down.weight, residual: x, c: y }, { m: T, n: D, k: F });
  return { y, kept: { scope, normed, inverse, gateUp, inner } };
}

/** Turns dy [T, D] into dx in place and adds to the gradients. Releases what was kept. */
export function mlpBackward(pass: Pass, block: MlpBlock, x: View, kept: MlpKept, dy: View): void {
  const { device, rows: T, config } = pass;
  const { hiddenSize: D, intermediateSize: F } = config;
  const norm = trained(block.norm), gateUp = trained(block.gateUp), down = trained(block.down);
  const scope = new Scope(device);
  const dinner = scope.take(T * F, "gradient of gated values");
  device.run(matmulNN, { a: dy, b: down.weight, c: dinner }, { m: T, n: F, k: D, accumulate: 0 });
  device.run(matmulTN, { a: dy, b: kept.inner, c: down.gradient }, { m: D, n: F, k: T, accumulate: 1 });
  const dgateUp = scope.take(T * 2 * F, "gradient of gate and up");
  device.run(swigluBackward, { gu: kept.gateUp, dy: dinner, offsets: pass.span, dgu: dgateUp }, {
    rows: T,
    width: F,
    first: 0,
    groups: 1,
  });
  device.run(matmulTN, { a: dgateUp, b: kept.normed, c: gateUp.gradient }, {
    m: 2 * F,
    n: D,
    k: T,
    accumulate: 1,
  });
  const dnormed = scope.take(T * D, "gradient of normed input");
  device.run(matmulNN, { a: dgateUp, b: gateUp.weight, c: dnormed }, { m: T, n: D, k: 2 * F, accumulate: 0 });
  normBackward(pass, norm, x, kept.inverse, dnormed, dy);
  scope.release();
  kept.scope.release();
}
