/**
 * Blocks of memory on a GPU.
 *
 * @module
 */
import type { OwnedMemory } from "../arguments.ts";

/** A buffer of the pool. */
export interface Block {
  readonly id: number;
  readonly buffer: GPUBuffer;
  /** The submission whose commands use it last. */
  usedBy: number;
}

/** An allocation: the words of a block that were asked for. */
export interface GpuMemory extends OwnedMemory {
  readonly block: Block;
}
