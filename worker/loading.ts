/**
 * Filling a worker's memory: every tensor that it holds is pulled from the coordinator, several pieces at a time.
 *
 * @module
 */
import { limits } from "../mesh/limits.ts";
import type { Part } from "../mesh/control/messages.ts";
import type { Compute, HeldTensor } from "./compute.ts";
import { PlanViolationError } from "./errors.ts";
import type { Residuals } from "./residuals.ts";

/** Asks the coordinator for words of a tensor; resolves with raw little-endian f32. */
export type Puller = (
  tensor: string,
  part: Part,
  start: number,
  length: number,
) => Promise<Uint8Array<ArrayBuffer>>;

/** How far loading is, in bytes. */
export type Progress = (done: number, total: number) => void;

interface Piece {
  readonly tensor: string;
  readonly part: Part;
  readonly start: number;
  readonly length: number;
}

/** What there is to go on from beside the weights. */
export interface Saved {
  readonly moments: boolean;
  /** What outer steps left: rounding's rest of tensors that others own, the momentum of all others. */
  readonly outer?: Residuals;
}

function* piecesOf(held: readonly HeldTensor[], { moments, outer }: Saved): Generator<Piece> {
  const most = limits.chunkBytes / 4;
  for (const tensor of held) {
    const words = tensor.shape.reduce((product, size) => product * size, 1);
    const parts: Part[] = ["weight"];
    if (moments && !tensor.copy) parts.push("m", "v");
    if (outer && !tensor.copy) parts.push(outer.has(tensor.name) ? "e" : "u");
    for (const part of parts) {
      for (let start = 0; start < words; start += most) {
        yield { tensor: tensor.name, part, start, length: Math.min(most, words - start) };
      }
    }
  }
}

/**
 * Pulls everything into `compute`; resolves with the number of bytes. What else is `saved` comes too, but for copies, which
 * are never stepped. Rejects with what `pull` or the device rejected with.
 */
export async function loadTensors(
  compute: Compute,
  held: readonly HeldTensor[],
  saved: Saved,
  pull: Puller,
  progress: Progress,
): Promise<number> {
  let total = 0, done = 0, failed = false;
  for (const { length } of piecesOf(held, saved)) total += length * 4;
  const pieces = piecesOf(held, saved);
  // A few loops share one list, so that the next pull leaves as soon as one came back.
  const loop = async () => {
    for (const { tensor, part, start, length } of pieces) {
      if (failed) return;
      const bytes = await pull(tensor, part, start, length);
      if (failed) return; // nobody waits for this any more, and the memory may be someone else's by now
      if (bytes.length !== length * 4) {
        throw new PlanViolationError(
          `The coordinator sent ${bytes.length} bytes of ${tensor} (${part}), ${length * 4} were asked for`,
        );
      }
      const words = new Float32Array(bytes.slice().buffer);
      if (part === "e") saved.outer!.view(tensor).set(words, start);
      else await compute.put(tensor, part, start, words);
      done += bytes.length;
      progress(done, total);
    }
  };
  progress(0, total);
  const loops = Array.from({ length: limits.pulls }, () =>
    loop().catch((error) => {
      failed = true;
      throw error;
    }));
  await Promise.all(loops);
  return total;
}
