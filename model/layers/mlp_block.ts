/**
 * The second half of a dense layer: y = x + down(silu(gate(norm(x))) * up(norm(x))).
 *
 * The part behind the norm also serves as the shared expert of a mixture-of-experts layer.
 *
 * Legend: T rows, D hidden, F width of the MLP.
 *
 * @module
 */
import { rmsNorm, type View } from "../../kernels/mod.ts";
import { normBackward } from "./attention_block.ts";
import { type BoundBlock, type Parameters, trained } from "../parameters.ts";
import type { Pass } from "./pass.ts";
import { Scope } from "../scope.ts";

/** The tensors of a gated MLP. */
export interface GatedMlp {
  /** F */
  readonly width: number;
  /** [2F, D] */
  readonly gateUp: BoundBlock;
  /** [D, F] */
  readonly down: BoundBlock;
}

/** The tensors of this half. */
export interface MlpBlock extends GatedMlp {
  readonly norm: BoundBlock;
}

/** Finds the tensors of layer `layer`. */
export function mlpBlock(parameters: Parameters, layer: number): MlpBlock {
  return {
    width: parameters.config.intermediateSize,
    norm: parameters.block("post-norm", layer),
    gateUp: parameters.block("gate-up", layer),
    down: parameters.block("down", layer),
  };
}

/** Finds the shared expert of layer `layer`; undefined where the model has none. */
export function sharedExpert(parameters: Parameters, layer: number): GatedMlp | undefined {
  const width = parameters.config.sharedExpert;
  if (width === 0) return undefined;
  return {
    width,
    gateUp: parameters.block("shared-gate-up", layer),
    down: parameters.block("shared-down", layer),
  };
}

/** What the backward pass of a gated MLP needs besides its input. */
export interface GatedKept {
  /** [T, 2F] */
  readonly gateUp: View;
  /** Operand [T, F]. */
  readonly inner: View;
}

/** What the backward pass needs, in `scope`. */
export interface MlpKept extends GatedKept {
  readonly scope: Scope;
  /** Operand [T, D]. */
  readonly normed: View;
  /** [T] */
  readonly inverse: View;
}

/** silu(gate(normed)) * up(normed), all but the down projection, in `scope`; `normed` is an operand. */
export function gatedForward(pass: Pass, mlp: GatedMlp, normed: View, scope: Scope): GatedKept {
  const { device, products, rows: T, config: { hiddenSize: D } } = pass, F = mlp.width;
  const gateUp = scope.take(T * 2 * F, "gate and up");
  device.run(products.matmulNT, { a: normed, b: mlp.gateUp.operand, c: gateUp }, {
    m: T,
    n: 2 * F,
    k: D,
    accumulate: 0,
  });
  const inner = scope.take(T * products.words(F), "gated values");
  device.run(products.swiglu, { gu: gateUp, offsets: pass.span, y: inner }, {
    rows: T,
    width: F,
    first: 0,
    groups: 1,
  });
  return { gateUp, inner };
}

/** Adds the down projection of gated values (an operand) to y [T, D]. */
export function addDown(pass: Pass, mlp: GatedMlp, inner: View, y: View): void {
  const { device, products, rows: T, config } = pass;
  const sizes = { m: T, n: config.hiddenSize, k: mlp.width, accumulate: 1 };
  device.run(products.matmulNT, { a: inner, b: mlp.down.operand, c: y }, sizes);
}

/**
 * Adds to the gradients of a gated MLP whose output has the gradient dy (f32 [T, D]). `normed` is an operand. Answers with the
 * gradient of gate and up (an operand [T, 2F]), in `scope`, for {@linkcode inputGradient}.
 */
export function gatedBackward(
  pass: Pass,
  mlp: GatedMlp,
  normed: View,
  kept: GatedKept,
  dy: View,
  scope: Scope,
): View {
  const { device, products, weights, rows: T, config: { hiddenSize: D } } = pass, F = mlp.width;
  const gateUp = trained(mlp.gateUp), down = trained(mlp.down);
  const dinner = scope.take(T * F, "gradient of gated values");
  const a = products.operand(device, scope, dy, T, D);
  device.run(products.matmulNN, { a, b: down.operand, c: dinner }, { m: T, n: F, k: D, accumulate: 0 });
  // Plain rows are dy itself, which the caller turns into another gradient.
  const fixed = a === dy ? weights.frozen(dy, scope) : a;
  const sizes = { m: D, n: F, k: T, accumulate: 1 };
  weights.run(products.matmulTN, { a: fixed, b: kept.inner, c: down.gradient }, sizes);
  const dgateUp = scope.take(T * products.words(2 * F), "gradient of gate and up");
  device.run(products.swigluBackward, { gu: kept.gateUp, dy: dinner, offsets: pass.span, dgu: dgateUp }, {
    rows: T,
    width: F,
    first: 0,
    groups: 1,
  });
  weights.run(products.matmulTN, { a: dgateUp, b: normed, c: gateUp.gradient }, {
    m: 2 * F,
    n: D,
    k: T,
    accumulate: 1,
  });
  return dgateUp;
}

/** Writes the gradient of a gated MLP's input to dnormed [T, D], or adds it there; `dgateUp` is an operand. */
export function inputGradient(
  { device, products, rows: T, config }: Pass,
  mlp: GatedMlp,
  dgateUp: View,
  dnormed: View,
  accumulate: 0 | 1,
): void {
  const sizes = { m: T, n: config.hiddenSize, k: 2 * mlp.width, accumulate };
  device.run(products.matmulNN, { a: dgateUp, b: mlp.gateUp.operand, c: dnormed }, sizes);
}

/** y [T, D] and what was kept; x stays the caller's. */
export function mlpForward(pass: Pass, block: MlpBlock, x: View): { y: View; kept: MlpKept } {
  const { device, products, rows: T, config } = pass;
  const { hiddenSize: D, rmsNormEps: eps } = config;
  const scope = new Scope(device);
  const plain = scope.take(T * D, "normed input");
  const inverse = scope.take(T, "inverse norms");
  device.run(rmsNorm, { x, gain: block.norm.weight, y: plain, inverse }, { rows: T, width: D, eps });
  const normed = products.turned(device, scope, plain, T, D);
  const { gateUp, inner } = gatedForward(pass, block, normed, scope);
  const y = device.allocate(T * D, "layer output");
  const sizes = { m: T, n: D, k: block.width };
  device.run(products.matmulNTAdd, { a: inner, b: block.down.operand, residual: x, c: y }, sizes);
  return { y, kept: { scope, normed, inverse, gateUp, inner } };
}

/** Turns dy [T, D] into dx in place and adds to the gradients. Releases what was kept. */
export function mlpBackward(pass: Pass, block: MlpBlock, x: View, kept: MlpKept, dy: View): void {
  const { device, weights, rows: T, config: { hiddenSize: D } } = pass;
  const norm = trained(block.norm), scope = new Scope(device);
  const dgateUp = gatedBackward(pass, block, kept.normed, kept, dy, scope);
  const dnormed = scope.take(T * D, "gradient of normed input");
  inputGradient(pass, block, dgateUp, dnormed, 0);
  normBackward(pass, norm, x, kept.inverse, dnormed, dy);
  weights.release(scope);
  weights.release(kept.scope);
}
