/**
 * The end of the model: logits = head(norm(x)), their cross-entropy, and the gradient of x.
 *
 * Logits are the largest thing in a pass, so they never outlive it: in training the gradient is computed at once, by
 * chunks of rows whose size depends on the vocabulary alone, so that sums are the same on every device.
 *
 * Legend: T rows, D hidden, V vocabulary.
 *
 * @module
 */
import { crossEntropy, part, rmsNorm, rmsNormBackward, rmsNormGain, type View } from "../../kernels/mod.ts";
import { type BoundBlock, type Parameters, trained } from "../parameters.ts";
import type { Pass } from "./pass.ts";
import { Scope } from "../scope.ts";

/** Words of logits that exist at once: 64 MiB, well under the smallest limit of a binding (128 MiB). */
const LOGIT_WORDS = 1 << 24;

/** Chunks begin at multiples of this many rows, which keeps every part aligned. */
const ROWS_STEP = 64;

/** The tensors of the head. */
export interface Head {
  readonly norm: BoundBlock;
  /** [V, D] */
  readonly matrix: BoundBlock;
}

/** Finds the head's tensors. */
export function headOf(parameters: Parameters): Head {
  return { norm: parameters.block("final-norm", parameters.config.layers), matrix: parameters.headBlock() };
}

/** Labels of a microbatch on the device, and where the losses go. */
export interface LossViews {
  /** u32 [T]; 0xffffffff does not count. */
  readonly labels: View;
  /** [1]: factor of the gradient, 1 / labels that count in the round. */
  readonly scale: View;
  /** [T], written: cross-entropy of each row. */
  readonly loss: View;
}

/** Rows of one chunk of logits. */
export function rowsPerChunk(vocabulary: number): number {
  return Math.max(ROWS_STEP, Math.floor(LOGIT_WORDS / vocabulary / ROWS_STEP) * ROWS_STEP);
}

/** The normed output as an operand, and the inverse norms. */
function normed(pass: Pass, head: Head, x: View, scope: Scope): { y: View; inverse: View } {
  const { device, products, rows: T, config } = pass;
  const plain = scope.take(T * config.hiddenSize, "normed output");
  const inverse = scope.take(T, "inverse norms");
  device.run(rmsNorm, { x, gain: head.norm.weight, y: plain, inverse }, {
    rows: T,
    width: config.hiddenSize,
    eps: config.rmsNormEps,
  });
  return { y: products.turned(device, scope, plain, T, config.hiddenSize), inverse };
}

/** Logits [T, V] of all rows at once, for the caller to release. */
export function headLogits(pass: Pass, head: Head, x: View): View {
  const { device, products, rows: T, config: { hiddenSize: D, vocabSize: V } } = pass;
  const scope = new Scope(device);
  const { y } = normed(pass, head, x, scope);
  const logits = device.allocate(T * V, "logits");
  const values = { m: T, n: V, k: D, accumulate: 0 };
  device.run(products.matmulNT, { a: y, b: head.matrix.operand, c: logits }, values);
  scope.release();
  return logits;
}

/**
 * Writes the losses; in training adds to the head's gradients and returns dx [T, D] for the caller to release. Logits
 * exist for `most` rows at a time, a multiple of 64.
 */
export function headLoss(
  pass: Pass,
  head: Head,
  x: View,
  views: LossViews,
  most: number = rowsPerChunk(pass.config.vocabSize),
): View | undefined {
  const { device, products, rows: T, config: { hiddenSize: D, vocabSize: V } } = pass;
  const training = pass.mode === "train";
  const scope = new Scope(device);
  const { y, inverse } = normed(pass, head, x, scope);
  const chunk = Math.min(T, most);
  const logits = scope.take(chunk * V, "logits");
  const dy = training ? scope.take(T * D, "gradient of normed output") : undefined;
  for (let start = 0; start < T; start += chunk) {
    const m = Math.min(chunk, T - start);
    const rows = part(y, start * products.words(D), m * products.words(D));
    const values = { m, n: V, k: D, accumulate: 0 };
    device.run(products.matmulNT, { a: rows, b: head.matrix.operand, c: logits }, values);
    device.run(crossEntropy, {
      logits,
      labels: part(views.labels, start, m),
      scale: views.scale,
      loss: part(views.loss, start, m),
    }, { rows: m, vocab: V, gradient: training ? 1 : 0 });
    if (dy === undefined) continue;
    const matrix = trained(head.matrix), turning = new Scope(device);
    const a = products.operand(device, turning, logits, m, V);
    device.run(products.matmulTN, { a, b: rows, c: matrix.gradient }, { m: V, n: D, k: m, accumulate: 1 });
    device.run(products.matmulNN, { a, b: matrix.operand, c: part(dy, start * D, m * D) }, {
      m,
      n: D,
      k: V,
      accumulate: 0,
    });
    turning.release();
  }
  let dx: View | undefined;
  if (dy !== undefined) {
    const norm = trained(head.norm);
    const values = { rows: T, width: D };
    dx = device.allocate(T * D, "gradient of the last layer's output");
    device.run(rmsNormGain, { x, inverse, dy, dgain: norm.gradient }, { ...values, accumulate: 1 });
    device.run(rmsNormBackward, { x, gain: norm.weight, inverse, dy, dx }, { ...values, accumulate: 0 });
  }
  scope.release();
  return dx;
}
