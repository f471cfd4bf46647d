/**
 * What a round leaves on a device for its end: the losses of its passes and, after training, the sizes of gradients.
 *
 * @module
 */
import type { View } from "../kernels/mod.ts";
import type { Losses } from "../mesh/control/messages.ts";
import type { GradientSize } from "../model/layers/optimizer.ts";
import type { Loaded } from "./loaded_slice.ts";

/** The losses of each pass (units as in the message), and the sizes of owned tensors' gradients; none after an evaluation. */
export interface RoundResults {
  readonly losses: Losses[];
  readonly tensors: GradientSize[];
}

/**
 * Takes what the round left: one entry of losses for each pass of an own stage, by microbatch, then stage. After an evaluation
 * (`evaluated`) the head's have the losses of each sequence.
 */
export async function roundResults(
  { device, slice, stages, optimizer, notes, shares }: Loaded,
  evaluated: boolean,
): Promise<RoundResults> {
  const left = notes.splice(0).sort((a, b) => a.notes.microbatch - b.notes.microbatch || a.stage - b.stage);
  const measured: View[] = [];
  if (!evaluated) {
    if (!shares.begun) optimizer.joinTied();
    measured.push(...optimizer.measure());
  }
  const buffers = await device.read([...left.map(({ notes }) => notes.view), ...measured]);
  const losses = left.map(({ stage, notes }, i) => {
    device.release(notes.view);
    const { rows, ...losses } = stages.get(stage)!.losses(notes, buffers[i]);
    return {
      layer: slice.stages[stage].from,
      ...losses,
      ...(evaluated && rows.length > 0 ? { sequences: sumsOf(rows, slice.shape.sequence) } : {}),
    };
  });
  return { losses, tensors: measured.length > 0 ? optimizer.sizes(buffers.slice(left.length)) : [] };
}

/** Sums of so many words each. */
function sumsOf(words: Float32Array, length: number): number[] {
  return Array.from(
    { length: words.length / length },
    (_, i) => words.subarray(i * length, (i + 1) * length).reduce((sum, word) => sum + word, 0),
  );
}
