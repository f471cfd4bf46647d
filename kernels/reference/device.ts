/**
 * The device of machines without WebGPU: every kernel's reference function on plain arrays, one thread.
 *
 * @module
 */
import { checkCall, checkCopy, checkView, checkWrite, type OwnedMemory } from "../arguments.ts";
import { ALIGNMENT, type Device, type View, type Words } from "../device.ts";
import type { DeviceInfo } from "../device_info.ts";
import { DeviceLostError } from "../errors.ts";
import type { Arrays, Bindings, Kernel, Params, Values } from "../kernel.ts";
import { Pool } from "../pool.ts";

/** Largest allocation: what every engine's ArrayBuffer allows. */
const LARGEST = 2 ** 31 - 2 ** 16;

/** Options of {@linkcode referenceDevice}. */
export interface ReferenceOptions {
  /** Largest sum of allocations in bytes. Default: no limit but the machine's. */
  readonly memory?: number;
}

interface ArrayMemory extends OwnedMemory {
  readonly buffer: ArrayBuffer;
}

/** A device that computes with the kernels' reference functions. */
export function referenceDevice(options: ReferenceOptions = {}): Device {
  return new ReferenceDevice(options.memory ?? Infinity);
}

class ReferenceDevice implements Device {
  readonly info: DeviceInfo = {
    kind: "reference",
    name: "plain arrays on one thread",
    vendor: "",
    architecture: "",
    software: true,
    subgroup: 0,
    maxBinding: LARGEST,
    maxAllocation: LARGEST,
  };
  readonly #pool: Pool<ArrayBuffer>;
  #closed = false;

  constructor(limit: number) {
    this.#pool = new Pool(
      { make: (bytes) => new ArrayBuffer(bytes), destroy: () => {} },
      LARGEST,
      limit,
    );
  }

  allocate(words: number, label: string): View {
    this.#check();
    const bytes = Math.max(words, ALIGNMENT) * 4;
    const buffer = this.#pool.acquire(bytes, label);
    const memory: ArrayMemory = { words, label, owner: this, released: false, buffer };
    return { memory, offset: 0, length: words };
  }

  release(view: View): void {
    this.#check();
    checkView(view, this, "release");
    const memory = view.memory as ArrayMemory;
    memory.released = true;
    this.#pool.release(memory.buffer);
  }

  write(view: View, data: Words): void {
    this.#check();
    checkView(view, this, "write");
    checkWrite(view, data);
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length);
    this.#words(view).set(words);
  }

  clear(view: View): void {
    this.#check();
    checkView(view, this, "clear");
    this.#words(view).fill(0);
  }

  copy(from: View, to: View): void {
    this.#check();
    checkView(from, this, "copy");
    checkView(to, this, "copy");
    checkCopy(from, to);
    this.#words(to).set(this.#words(from));
  }

  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.#check();
    const plain = kernel as unknown as Kernel;
    const ordered = checkCall(plain, views, values, this, LARGEST);
    const arrays: Record<string, Float32Array | Uint32Array> = {};
    let index = 0;
    for (const name in plain.bindings) {
      const view = ordered[index++];
      const { buffer } = view.memory as ArrayMemory;
      arrays[name] = plain.bindings[name].startsWith("u32")
        ? new Uint32Array(buffer, view.offset * 4, view.length)
        : new Float32Array(buffer, view.offset * 4, view.length);
    }
    plain.reference(arrays as Arrays<Bindings>, values);
  }

  // Asynchronous like every device's, although nothing is waited for.
  // deno-lint-ignore require-await
  async read(views: readonly View[]): Promise<ArrayBuffer[]> {
    this.#check();
    return views.map((view) => {
      checkView(view, this, "read");
      return this.#words(view).slice().buffer;
    });
  }

  // deno-lint-ignore require-await
  async readJoined(views: readonly View[]): Promise<ArrayBuffer> {
    this.#check();
    for (const view of views) checkView(view, this, "read");
    const all = new Uint32Array(views.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const view of views) {
      all.set(this.#words(view), at);
      at += view.length;
    }
    return all.buffer;
  }

  flush(): void {
    this.#check();
  }

  memory(): { held: number; used: number; peak: number } {
    return this.#pool.accounts;
  }

  trim(): void {
    this.#check();
    this.#pool.trim();
  }

  close(): void {
    this.#closed = true;
    this.#pool.close();
  }

  #words(view: View): Uint32Array<ArrayBuffer> {
    return new Uint32Array((view.memory as ArrayMemory).buffer, view.offset * 4, view.length);
  }

  #check(): void {
    if (this.#closed) throw new DeviceLostError("The device has been closed; open a new one");
  }
}
