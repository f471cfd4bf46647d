/**
 * Where a generation has its tensors from.
 *
 * @module
 */
import type { Part } from "../../mesh/control/messages.ts";

/** Where tensors come from: a checkpoint or a fresh model. Words out of range are its user's fault. */
export interface ParameterSource {
  /**
   * Words `start`..`start + length` of one part of a tensor, as little-endian f32 bytes, for the pipeline at the place
   * `replica`.
   */
  read(
    tensor: string,
    part: Part,
    start: number,
    length: number,
    replica: number,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /** There is what outer steps of local training left, with moments of each replica. */
  readonly outer?: boolean;
}
