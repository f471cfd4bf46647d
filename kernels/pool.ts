/**
 * Blocks of memory that are kept for reuse, in classes of sizes, with a limit and accounts.
 *
 * @module
 */
import { OutOfMemoryError } from "./errors.ts";

/** Smallest block in bytes: the alignment of bound views. */
const SMALLEST = 256;

/** Eight classes an octave: a block is at most an eighth larger than what was asked for. */
const CLASSES_PER_OCTAVE = 8;

/** A free block may serve a request of a class this much smaller, so that ragged sizes do not pile up free blocks. */
const LARGEST_MISFIT = 1.25;

/** Bytes of the size class that holds `bytes`. */
function sizeClass(bytes: number): number {
  if (bytes <= SMALLEST) return SMALLEST;
  const octave = 2 ** Math.floor(Math.log2(bytes));
  const step = Math.max(SMALLEST, octave / CLASSES_PER_OCTAVE);
  return Math.ceil(bytes / step) * step;
}

/** Bytes in the unit that people read. */
export function describeBytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** What a pool does with real memory. */
export interface BlockSource<Block> {
  /** Makes a block of exactly `bytes`. Throws where the memory is not there. */
  readonly make: (bytes: number) => Block;
  readonly destroy: (block: Block) => void;
  /** Called before blocks are destroyed, so that recorded work that uses them can be submitted. */
  readonly beforeDestroy?: () => void;
}

/** A block and what the pool knows about it. */
interface Held<Block> {
  readonly block: Block;
  readonly size: number;
  /** How many blocks were made before it. */
  readonly number: number;
  /** What it was asked for last. */
  label: string;
}

/**
 * A pool of blocks. Of the free blocks that fit, the oldest that last had the same label is taken, else the oldest: work
 * that repeats then gets the same blocks each time, whatever order blocks came back in and however passes took turns, and
 * what is cached by block (bind groups) is found again. Freed blocks stay held until {@linkcode Pool.trim},
 * {@linkcode Pool.close}, or the limit calls for them.
 */
export class Pool<Block> {
  readonly #source: BlockSource<Block>;
  readonly #largest: number;
  readonly #limit: number;
  /** By size, the oldest last. */
  readonly #free = new Map<number, Held<Block>[]>();
  readonly #used = new Map<Block, Held<Block>>();
  #made = 0;
  #heldBytes = 0;
  #usedBytes = 0;
  #peak = 0;

  /** `largest` is the largest block and `limit` the largest sum of blocks, both in bytes. */
  constructor(source: BlockSource<Block>, largest: number, limit: number) {
    this.#source = source;
    this.#largest = largest;
    this.#limit = limit;
  }

  /** Bytes held (free blocks included), in use, and the highest number held so far. */
  get accounts(): { held: number; used: number; peak: number } {
    return { held: this.#heldBytes, used: this.#usedBytes, peak: this.#peak };
  }

  /** A block of at least `bytes`. Throws {@linkcode OutOfMemoryError}. */
  acquire(bytes: number, label: string): Block {
    if (bytes > this.#largest) {
      throw new OutOfMemoryError(
        `Cannot allocate ${describeBytes(bytes)} for ${label}: the device's largest allocation is ` +
          `${describeBytes(this.#largest)}. Split it into several.`,
      );
    }
    const size = Math.min(sizeClass(bytes), this.#largest);
    const found = this.#takeFree(size, label);
    if (found !== undefined) return found;
    if (this.#heldBytes + size > this.#limit) this.trim();
    if (this.#heldBytes + size > this.#limit) throw this.outOfMemory(size, label);
    let block: Block;
    try {
      block = this.#source.make(size);
    } catch (cause) {
      this.trim();
      try {
        block = this.#source.make(size);
      } catch {
        throw this.outOfMemory(size, label, cause);
      }
    }
    this.#heldBytes += size;
    this.#peak = Math.max(this.#peak, this.#heldBytes);
    return this.#use({ block, size, number: this.#made++, label });
  }

  /** Takes back a block that {@linkcode Pool.acquire} gave. */
  release(block: Block): void {
    const held = this.#used.get(block);
    if (held === undefined) throw new Error("Cannot release a block that is not in use");
    const { size, number } = held;
    this.#used.delete(block);
    this.#usedBytes -= size;
    let list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, list = []);
    let at = list.length;
    while (at > 0 && list[at - 1].number < number) at--;
    list.splice(at, 0, held);
  }

  /** Destroys free blocks. */
  trim(): void {
    if (this.#free.size > 0) this.#source.beforeDestroy?.();
    for (const [size, list] of this.#free) {
      for (const { block } of list) {
        this.#source.destroy(block);
        this.#heldBytes -= size;
      }
    }
    this.#free.clear();
  }

  /** Destroys all blocks, those in use too. */
  close(): void {
    this.trim();
    for (const block of this.#used.keys()) this.#source.destroy(block);
    this.#used.clear();
    this.#heldBytes = 0;
    this.#usedBytes = 0;
  }

  /** The error that says what was asked for, what is held and what the limit is. */
  outOfMemory(bytes: number, label: string, cause?: unknown): OutOfMemoryError {
    const limit = Number.isFinite(this.#limit) ? describeBytes(this.#limit) : "what the driver gives";
    return new OutOfMemoryError(
      `Cannot allocate ${describeBytes(bytes)} for ${label}: ${describeBytes(this.#heldBytes)} are held ` +
        `(${describeBytes(this.#usedBytes)} in use), the limit is ${limit}. ` +
        `Use a smaller microbatch or model, recompute activations, or give the device more memory.`,
      { cause },
    );
  }

  #takeFree(size: number, label: string): Block | undefined {
    let fit: number | undefined;
    if (this.#free.has(size)) fit = size;
    else {
      for (const candidate of this.#free.keys()) {
        if (candidate < size || candidate > size * LARGEST_MISFIT) continue;
        if (fit === undefined || candidate < fit) fit = candidate;
      }
    }
    if (fit === undefined) return undefined;
    const list = this.#free.get(fit)!;
    let at = list.length - 1;
    while (at >= 0 && list[at].label !== label) at--;
    const [held] = list.splice(at, 1); // the last one, the oldest, where none had the label
    held.label = label;
    if (list.length === 0) this.#free.delete(fit);
    return this.#use(held);
  }

  #use(held: Held<Block>): Block {
    this.#used.set(held.block, held);
    this.#usedBytes += held.size;
    return held.block;
  }
}
