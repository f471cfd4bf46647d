/**
 * Parameters on their way between checkpoints and workers, piece by piece: nobody here ever holds a whole model.
 *
 * @module
 */
import type { ParameterSource } from "./parameter_source.ts";
import type { LocalPart, Moment, SavedState } from "../../model/checkpoint/training_state.ts";
import type { TensorSource } from "../../model/source.ts";
import { parameterTable } from "../../model/tensors.ts";
import { limits } from "../../mesh/limits.ts";
import type { Part } from "../../mesh/control/messages.ts";
import { holderOf } from "../../mesh/plan.ts";
import type { Generation } from "./generation.ts";
import { type Owned, words } from "../cost/holdings.ts";

/** Words of one piece on a control connection. */
const pieceWords = limits.chunkBytes / 4;
/** Pieces under way from one worker at a time: enough to hide the road, little enough to hold in memory. */
const piecesInFlight = 4;

/**
 * Serves a model's weights, and AdamW's moments where there are any; ranges are checked. With `outer` replicas of local
 * training get each its own, and what outer steps left.
 */
export function parameterSource(
  tensors: TensorSource,
  saved: SavedState | undefined,
  outer = false,
): ParameterSource {
  const lengths = new Map(parameterTable(tensors.config).map((spec) => [spec.name, words(spec)]));
  return {
    outer,
    async read(tensor: string, part: Part, start: number, length: number, replica: number) {
      const all = lengths.get(tensor);
      if (all === undefined) throw new RangeError(`the model has no tensor ${tensor}`);
      if (start + length > all) throw new RangeError(`it has ${all} words`);
      if (part === "weight") return bytesOf(await tensors.read(tensor, start, length));
      if (saved === undefined) throw new RangeError("there are no moments yet");
      if (outer) return bytesOf(await saved.readLocal(part, replica, tensor, start, length));
      if (part === "u" || part === "e") throw new RangeError("there was no outer step yet");
      return bytesOf(await saved.readMoment(part, tensor, start, length));
    },
  };
}

/** What takes the tensors of a snapshot; see model/checkpoint/checkpoint_writer.ts. */
export interface SnapshotWriter {
  write(
    part: "weight" | Moment,
    tensor: string,
    start: number,
    words: Float32Array<ArrayBuffer>,
  ): Promise<void>;
  writeLocal(
    part: LocalPart | "u",
    replica: number,
    tensor: string,
    start: number,
    words: Float32Array<ArrayBuffer>,
  ): Promise<void>;
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
  const moments = table.flatMap((spec) =>
    (["weight", "m", "v"] as const).map((part): Wanted => ({
      spec,
      part,
      write: (start, words) => writer.write(part, spec.name, start, words),
    }))
  );
  await pullAll(generation, moments);
}

/** The rest of a snapshot between two intervals of local training: the outer momentum, and what replicas keep that do not own a tensor. */
export async function snapshotLocal(
  generation: Generation,
  table: readonly Owned[],
  writer: SnapshotWriter,
): Promise<void> {
  const { pipelines, owners } = generation.plan;
  const wanted = table.flatMap((spec) => {
    const of = (part: LocalPart | "u", replica: number): Wanted => ({
      spec: { ...spec, owner: holderOf(pipelines[replica].stages, spec.layer, spec.expert) },
      part,
      write: (start, words) => writer.writeLocal(part, replica, spec.name, start, words),
    });
    const owner = owners[spec.layer + 1], others = [...pipelines.keys()].filter((p) => p !== owner);
    return [of("u", owner), ...others.flatMap((p) => (["m", "v", "e"] as const).map((part) => of(part, p)))];
  });
  await pullAll(generation, wanted);
}

/** A part of a tensor, from its `owner`, and where its words go. */
interface Wanted {
  readonly spec: Owned;
  readonly part: Part;
  readonly write: (start: number, words: Float32Array<ArrayBuffer>) => Promise<void>;
}

async function pullAll(generation: Generation, wanted: readonly Wanted[]): Promise<void> {
  const byOwner = new Map<string, Wanted[]>();
  for (const one of wanted) {
    const own = byOwner.get(one.spec.owner) ?? [];
    own.push(one);
    byOwner.set(one.spec.owner, own);
  }
  let failed = false;
  await Promise.all([...byOwner].map(async ([owner, own]) => {
    const pieces = piecesOf(own);
    const one = async () => {
      for (const { of: { spec, part, write }, start, length } of pieces) {
        if (failed) return;
        try {
          await write(start, wordsOf(await generation.pull(owner, spec.name, part, start, length)));
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

function* piecesOf(wanted: readonly Wanted[]) {
  for (const of of wanted) {
    const all = words(of.spec);
    for (let start = 0; start < all; start += pieceWords) {
      yield { of, start, length: Math.min(pieceWords, all - start) };
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
