/**
 * What the activations of one training pass take, by length of sequence: exact, from what the pass asks its device for.
 *
 * @module
 */
import { DryDevice } from "../../kernels/dry_device.ts";
import { freshModel } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { batch, config } from "./step_model.ts";

/** Bytes at the highest, beside the parameters', of a forward and a backward pass over one sequence. */
export async function activationBytes(
  sequences: readonly number[],
): Promise<{ sequence: number; bytes: number }[]> {
  const result: { sequence: number; bytes: number }[] = [];
  for (const sequence of sequences) {
    const device = new DryDevice();
    const model = await LoadedModel.load(device, freshModel(config, 1), { training: true });
    const before = device.memory().used;
    const { sequences: one, labels } = batch(1, 1, sequence);
    await model.gradients(one, labels);
    result.push({ sequence, bytes: device.memory().peak - before });
    model.release();
  }
  return result;
}
