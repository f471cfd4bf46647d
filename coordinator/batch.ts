/**
 * What workers compute on in one round.
 *
 * @module
 */

/** The data of a round: u32 little-endian [microbatches, batch, sequence]. */
export interface Batch {
  readonly ids: Uint8Array<ArrayBuffer>;
  readonly labels: Uint8Array<ArrayBuffer>;
  /** Labels that count: all but `NO_LABEL`. */
  readonly validLabels: number;
}
