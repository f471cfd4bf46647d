/**
 * The first half of a layer: y = x + o(attention(rope(qkv(norm(x))))).
 *
 * Legend: T rows, D hidden, H query heads, K key/value heads, hd head size, W = (H + 2K) hd.
 *
 * @module
 */
import {
  attention,
  attentionBackwardKV,
  attentionBackwardQ,
  attentionDelta,
  columnSum,
  part,
  rmsNorm,
  rmsNormBackward,
  rmsNormGain,
  rope,
  type View,
} from "../../kernels/mod.ts";
import { type BoundBlock, type Parameters, trained, type TrainedBlock } from "../parameters.ts";
import type { Pass } from "./pass.ts";
import { Scope } from "../scope.ts";

/** The tensors of this half. */
export interface AttentionBlock {
  readonly norm: BoundBlock;
  readonly qkv: BoundBlock;
  readonly bias: BoundBlock | undefined;
  readonly o: BoundBlock;
}

/** Finds the tensors of layer `layer`. */
export function attentionBlock(parameters: Parameters, layer: number): AttentionBlock {
  return {
    norm: parameters.block("input-norm", layer),
    qkv: parameters.block("qkv", layer),
    bias: parameters.config.attentionBias ? parameters.block("qkv-bias", layer) : undefined,
    o: parameters.block("o", layer),
  };
}

/** What the backward pass needs, in `scope`. */
export interface AttentionKept {
  readonly scope: Scope;
  /** Operand [T, D]. */
  readonly normed: View;
  /** [T] */
  readonly inverse: View;
  /** [T, W], rotated. */
  readonly qkv: View;
  /** [T, H hd] */
  readonly mixed: View;
  /** [T H] */
  readonly lse: View;
}

function sizes({ config, rows }: Pass) {
  const { hiddenSize: D, heads: H, kvHeads: K, headDim: hd } = config;
  return { T: rows, D, H, K, hd, W: (H + 2 * K) * hd, eps: config.rmsNormEps };
}

/** Projects x (normed, operand [T, D]) to rotated queries, keys and values [T, W]; `start` is the position of the first row. */
export function projectQkv(pass: Pass, block: AttentionBlock, normed: View, qkv: View, start: number): void {
  const { device, products } = pass;
  const { T, D, H, K, hd, W } = sizes(pass);
  const values = { m: T, n: W, k: D }, b = block.qkv.operand;
  if (block.bias) {
    device.run(products.matmulNTBias, { a: normed, b, bias: block.bias.weight, c: qkv }, values);
  } else {
    device.run(products.matmulNT, { a: normed, b, c: qkv }, { ...values, accumulate: 0 });
  }
  device.run(rope, { x: qkv, table: pass.table }, {
    rows: T,
    seq: pass.sequence,
    start,
    heads: H + K,
    headDim: hd,
    stride: W,
    inverse: 0,
  });
}

/** y [T, D] and what was kept; x stays the caller's. */
export function attentionForward(
  pass: Pass,
  block: AttentionBlock,
  x: View,
): { y: View; kept: AttentionKept } {
  const { device, products } = pass;
  const { T, D, H, K, hd, W, eps } = sizes(pass);
  const scope = new Scope(device);
  const plain = scope.take(T * D, "normed input");
  const inverse = scope.take(T, "inverse norms");
  device.run(rmsNorm, { x, gain: block.norm.weight, y: plain, inverse }, { rows: T, width: D, eps });
  const normed = products.turned(device, scope, plain, T, D);
  const qkv = scope.take(T * W, "queries, keys, values");
  projectQkv(pass, block, normed, qkv, 0);
  const mixed = scope.take(T * H * hd, "mixed values");
  const lse = scope.take(T * H, "logsumexp of scores");
  const { batch, sequence: seq } = pass;
  device.run(attention, { qkv, out: mixed, lse }, { batch, seq, heads: H, kvHeads: K, headDim: hd });
  const y = device.allocate(T * D, "attention output");
  project(pass, block, mixed, x, y);
  return { y, kept: { scope, normed, inverse, qkv, mixed, lse } };
}

/** y [T, D] = residual + o(mixed) for mixed values [T, H hd]. */
export function project(pass: Pass, { o }: AttentionBlock, mixed: View, residual: View, y: View): void {
  const { device, products } = pass;
  const { T, D, H, hd } = sizes(pass);
  const scope = new Scope(device);
  const a = products.operand(device, scope, mixed, T, H * hd);
  device.run(products.matmulNTAdd, { a, b: o.operand, residual, c: y }, { m: T, n: D, k: H * hd });
  scope.release();
}

/** Turns dy [T, D] into dx in place and adds to the gradients. Releases what was kept and is no longer needed. */
export function attentionBackward(
  pass: Pass,
  block: AttentionBlock,
  x: View,
  kept: AttentionKept,
  dy: View,
): void {
  const { device, products, weights, batch, sequence: seq } = pass;
  const { T, D, H, K, hd, W } = sizes(pass);
  const { norm, qkv: matrix, bias, o } = withGradients(block);
  const scope = new Scope(device);
  const dmixed = scope.take(T * H * hd, "gradient of mixed values");
  const dout = products.operand(device, scope, dy, T, D);
  const mixed = products.operand(device, scope, kept.mixed, T, H * hd);
  device.run(products.matmulNN, { a: dout, b: o.operand, c: dmixed }, {
    m: T,
    n: H * hd,
    k: D,
    accumulate: 0,
  });
  // Plain rows are dy itself, which becomes dx below.
  const fixed = dout === dy ? weights.frozen(dy, scope) : dout;
  weights.run(products.matmulTN, { a: fixed, b: mixed, c: o.gradient }, {
    m: D,
    n: H * hd,
    k: T,
    accumulate: 1,
  });
  const delta = scope.take(T * H, "row sums of attention's gradient");
  device.run(attentionDelta, { out: kept.mixed, dout: dmixed, delta }, { rows: T, heads: H, headDim: hd });
  const dqkv = scope.take(T * W, "gradient of queries, keys, values");
  const views = { qkv: kept.qkv, dout: dmixed, lse: kept.lse, delta, dqkv };
  const values = { batch, seq, heads: H, kvHeads: K, headDim: hd };
  device.run(attentionBackwardQ, views, values);
  device.run(attentionBackwardKV, views, values);
  if (seq === 1) {
    // A softmax over a single key has no gradient; rounding must not make one out of nothing.
    for (let row = 0; row < T; row++) device.clear(part(dqkv, row * W, (H + K) * hd));
  }
  device.run(rope, { x: dqkv, table: pass.table }, {
    rows: T,
    seq,
    start: 0,
    heads: H + K,
    headDim: hd,
    stride: W,
    inverse: 1,
  });
  if (bias) {
    weights.run(columnSum, { x: dqkv, y: bias.gradient }, {
      rows: T,
      width: W,
      accumulate: 1,
      stride: W,
      start: 0,
    });
  }
  const a = products.operand(device, scope, dqkv, T, W);
  weights.run(products.matmulTN, { a, b: kept.normed, c: matrix.gradient }, {
    m: W,
    n: D,
    k: T,
    accumulate: 1,
  });
  const dnormed = scope.take(T * D, "gradient of normed input");
  device.run(products.matmulNN, { a, b: matrix.operand, c: dnormed }, { m: T, n: D, k: W, accumulate: 0 });
  normBackward(pass, norm, x, kept.inverse, dnormed, dy);
  weights.release(scope);
  weights.release(kept.scope);
}

/** Adds the gradient through y = rmsnorm(x) to dx [T, D] and to the gain's gradient. */
export function normBackward(
  pass: Pass,
  norm: TrainedBlock,
  x: View,
  inverse: View,
  dy: View,
  dx: View,
  accumulate: 0 | 1 = 1,
): void {
  const values = { rows: pass.rows, width: pass.config.hiddenSize };
  pass.weights.run(rmsNormGain, { x, inverse, dy, dgain: norm.gradient }, { ...values, accumulate: 1 });
  pass.device.run(rmsNormBackward, { x, gain: norm.weight, inverse, dy, dx }, { ...values, accumulate });
}

function withGradients({ norm, qkv, bias, o }: AttentionBlock) {
  return { norm: trained(norm), qkv: trained(qkv), bias: bias && trained(bias), o: trained(o) };
}
