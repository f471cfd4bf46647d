/**
 * What a device is: memory, kernels run on it, and values read back. Two exist, WebGPU and plain arrays.
 *
 * @module
 */
import type { DeviceInfo } from "./device_info.ts";
import type { Bindings, Kernel, Params, Values } from "./kernel.ts";

/** An allocation on a device, opaque to everyone but the device that made it. */
export interface Memory {
  /** Size in words of 32 bits. */
  readonly words: number;
  readonly label: string;
}

/** A span of 32-bit words inside an allocation: what kernels are run on. */
export interface View {
  readonly memory: Memory;
  /** First word. Views that kernels bind start at multiples of {@linkcode ALIGNMENT}. */
  readonly offset: number;
  /** Number of words. */
  readonly length: number;
}

/** Words to which the start of a bound view is aligned: 256 bytes, the largest that WebGPU may ask for. */
export const ALIGNMENT = 64;

/** Host data that can be written: 32-bit words. */
export type Words = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

/**
 * Memory and arithmetic. Commands take effect in the order in which they are given; nothing is waited for but in `read`.
 * After the device is lost every method throws {@linkcode DeviceLostError}.
 */
export interface Device {
  readonly info: DeviceInfo;
  /** A new span of `words` words, aligned, contents unspecified. Throws {@linkcode OutOfMemoryError}. */
  allocate(words: number, label: string): View;
  /** Gives a span that `allocate` returned back to the pool; commands given before still see it. */
  release(view: View): void;
  /** Copies host words to the start of `view`. */
  write(view: View, data: Words): void;
  /** Sets every word to zero. */
  clear(view: View): void;
  /** Copies `from` to `to` (equal lengths). */
  copy(from: View, to: View): void;
  /** Runs a kernel. No view that it writes may share memory with a view it only reads. */
  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void;
  /** The contents of all views after everything given before, in one transfer: one fresh buffer for each view. */
  read(views: readonly View[]): Promise<ArrayBuffer[]>;
  /** As {@linkcode Device.read}, one view behind the other in one fresh buffer. */
  readJoined(views: readonly View[]): Promise<ArrayBuffer>;
  /** Starts the work given so far without waiting for it. */
  flush(): void;
  /** Gives the memory of released spans back to the machine, which otherwise stays for spans to come. */
  trim(): void;
  /** Bytes held by allocations, pooled ones included, and their highest value so far. */
  memory(): { readonly held: number; readonly used: number; readonly peak: number };
  /** Frees everything. */
  close(): void;
}

/** A part of a view: `length` words from word `start`. */
export function part(view: View, start: number, length: number): View {
  if (start < 0 || length < 0 || start + length > view.length) {
    throw new RangeError(`Cannot take words ${start}..${start + length} of a span of ${view.length}`);
  }
  return { memory: view.memory, offset: view.offset + start, length };
}
