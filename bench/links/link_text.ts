/**
 * What the parts of `bench links` say in the same way.
 *
 * @module
 */

/** What a part of the bench answers with where it did not meet its goal. */
export type Failures = string[];

/** Bytes a second. */
export function rate(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
}

/** Sizes of frames: whole KiB or MiB. */
export function bytesText(bytes: number): string {
  return bytes < 1 << 20 ? `${bytes >> 10} KiB` : `${bytes / (1 << 20)} MiB`;
}
