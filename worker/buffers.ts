/**
 * Letting go of tensors' memory without waiting for the garbage collector, which hardly notices how much hangs on a small
 * object: a worker that moves megabytes a step would otherwise hold hundreds of them for nothing.
 *
 * @module
 */

/** Frees a buffer that nobody reads any more; views of it become empty. One that was handed to another thread stays so. */
export function free(buffer: ArrayBuffer): void {
  if (!buffer.detached) buffer.transfer(0);
}
