/**
 * Parameters on their way between checkpoints and workers, piece by piece: nobody here ever holds a whole model.
 *
 * @module
 */
import type { SavedState } from "../model/training_state.ts";
import type { TensorSource } from "../model/source.ts";
import { parameterTable } from "../model/tensors.ts";
import { limits } from "../mesh/limits.ts";
import type { Part } from "../mesh/messages.ts";
import type { Generation, ParameterSource } from "./generation.ts";
import { type Owned, words } from "./holdings.ts";

/** Words of one piece on a control connection. */
const pieceWords = limits.chunkBytes / 4;
/** Pieces under way from one worker at a time: enough to hide the road, little enough to hold in memory. */
const piecesInFlight = 4;

/** Serves a model's weights, and AdamW's moments where there are any; ranges are checked. */
export function parameterSource(tensors: TensorSource, saved: SavedState | undefined): ParameterSource {
  const lengths = new Map(parameterTable(tensors.config).map((spec) => [spec.name, words(spec)]));
  return {
    async read(tensor: string, part: Part, start: number, length: number) {
      const all = lengths.get(tensor);
      if (all === undefined) throw new RangeError(`the model has no tensor ${tensor}`);
      if (start + length > all) throw new RangeError(`it has ${all} words`);
      if (part === "weight") return bytesOf(await tensors.read(tensor, start, length));
      if (saved === undefined) throw new RangeError("there are no moments yet");
      return bytesOf(await saved.readMoment(part, tensor, start, length));
    },
  };
}

/** What takes the tensors of a snapshot; see model/checkpoint_writer.ts. */
export interface SnapshotWriter {
  write(part: Part, tensor: string, start: number, words: Float32Array<ArrayBuffer>): Promise<void>;
}

/**
 * Pulls every tensor with its moments from its owner into a writer. Workers are asked at the same time, a few pieces each;
 * a slow disk holds them back.
 */
export async function snapshot(
  generation: Generation,
  table: readonly Owned[],
  writer: SnapshotWriter,
): Promise<void> {
  const byOwner = new Map<string, Owned[]>();
  for (const tensor of table) {
    const own = byOwner.get(tensor.owner) ?? [];
    own.push(tensor);
    byOwner.set(tensor.owner, own);
  }
  let failed = false;
  await Promise.all([...byOwner].map(async ([owner, tensors]) => {
    const pieces = piecesOf(tensors);
    const one = async () => {
      for (const { tensor, part, start, length } of pieces) {
        if (failed) return;
        try {
          const bytes = await generation.pull(owner, tensor, part, start, length);
          await writer.write(part, tensor, start, wordsOf(bytes));
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    // One iterator, several takers: each piece is taken once.
    await Promise.all(Array.from({ length: piecesInFlight }, one));
  }));
}

function* piecesOf(tensors: readonly Owned[]) {
  for (const spec of tensors) {
    const all = words(spec);
    for (const part of ["weight", "m", "v"] as const) {
      for (let start = 0; start < all; start += pieceWords) {
        yield { tensor: spec.name, part, start, length: Math.min(pieceWords, all - start) };
      }
    }
  }
}

function bytesOf(words: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Aligned f32 words of received bytes. */
function wordsOf(bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}
