/**
 * Drop-Upcycling (Nakamura et al., "Drop-Upcycling: Training Sparse Mixture of Experts with Partial Re-initialization",
 * 2025): each expert forgets a share of its neurons, so that experts can become different.
 *
 * @module
 */
import { drawNormal } from "../init.ts";
import { randomStream } from "../random.ts";
import type { TensorSpec } from "../tensors.ts";

/** The neurons of one expert that are drawn anew, in rising order; the same for its three matrices. */
export function droppedNeurons(
  width: number,
  share: number,
  seed: number,
  layer: number,
  expert: number,
): Uint32Array {
  const stream = randomStream(seed, "drop", layer, expert);
  const order = Uint32Array.from({ length: width }, (_, i) => i);
  const count = Math.floor(share * width);
  for (let i = 0; i < count; i++) { // the first steps of Fisher and Yates
    const j = i + stream.integer(width - i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order.slice(0, count).sort();
}

/**
 * Draws a share of an expert's neurons anew, in place: rows of gate and up, columns of down, normal with the mean and
 * standard deviation of the values that they replace.
 */
export function redrawNeurons(
  spec: TensorSpec,
  words: Float32Array<ArrayBuffer>,
  share: number,
  seed: number,
): void {
  const [rows, columns] = spec.shape, byColumn = spec.role === "expert-down";
  const neurons = droppedNeurons(byColumn ? columns : rows, share, seed, spec.layer, spec.expert!);
  if (neurons.length === 0) return;
  const others = byColumn ? rows : columns;
  const visit = (each: (index: number) => void) => {
    for (let i = 0; i < others; i++) {
      for (const neuron of neurons) each(byColumn ? i * columns + neuron : neuron * columns + i);
    }
  };
  const count = others * neurons.length;
  let sum = 0, squares = 0;
  visit((index) => sum += words[index]);
  const mean = sum / count;
  visit((index) => squares += (words[index] - mean) ** 2);
  const deviation = Math.sqrt(squares / count);
  const drawn = drawNormal(seed, `drop ${spec.name}`, 0, count, 1);
  let next = 0;
  visit((index) => words[index] = mean + deviation * drawn[next++]);
}
