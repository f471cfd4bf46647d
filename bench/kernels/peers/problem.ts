/**
 * What the bench of peers computes, and what each peer says about itself.
 *
 * @module
 */

/** A square product in the layouts that training uses: a b, a b^T, a^T b. */
export const LAYOUTS = ["nn", "nt", "tn"] as const;
export type ProductLayout = (typeof LAYOUTS)[number];

/** Side of the product's matrices. */
export const SIDE = 512;

/** Rows, inputs, hidden units (ReLU, no biases) and outputs of the perceptron. */
export const MLP = { rows: 512, inputs: 256, hidden: 1024, outputs: 256 } as const;

/** AdamW of the perceptron. */
export const ADAMW = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 } as const;

/** Multiplications and additions of a step: two forward products, two of weights' gradients, one of an activation's. */
export const MLP_FLOPS = 2 * MLP.rows * MLP.hidden * (2 * MLP.inputs + 3 * MLP.outputs);

/** One library on one adapter. */
export interface Peer {
  readonly name: string;
  /** Milliseconds of so many products and a wait for the last; `element` is the first result's at row 1, column 2. */
  product(layout: ProductLayout, calls: number): Promise<{ milliseconds: number; element: number }>;
  /** Milliseconds of so many steps and a wait for the last one's loss (mean square). */
  steps(count: number): Promise<{ milliseconds: number; loss: number }>;
  close(): void;
}

/** Numbers around zero, the same for every peer. */
export function noise(length: number, scale: number, phase: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + phase) * scale);
}

/** The perceptron's input, targets and first weights [out, in]. */
export function mlpProblem() {
  const { rows, inputs, hidden, outputs } = MLP;
  return {
    x: noise(rows * inputs, 1, 1),
    target: noise(rows * outputs, 1, 2),
    w1: noise(hidden * inputs, 0.1, 3),
    w2: noise(outputs * hidden, 0.05, 4),
  };
}

/** A matrix [rows, columns] turned over: peers keep weights [in, out]. */
export function turned(words: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => words[i % rows * columns + Math.floor(i / rows)],
  );
}
