/**
 * A device on loan: everything allocated through it is given back at once, and whoever still computes afterwards (a pass
 * that waited for another worker while the plan changed) gets an error instead of someone else's memory.
 *
 * @module
 */
import type { Bindings, Device, Kernel, Params, Values, View, Words } from "../kernels/mod.ts";

/** A call on a device whose loan is over. */
export class LeaseOverError extends Error {
  override readonly name = "LeaseOverError";
}

/** A device that remembers what was allocated through it. */
export class Lease implements Device {
  readonly info;
  readonly #device: Device;
  readonly #views = new Set<View>();
  #over = false;

  constructor(device: Device) {
    this.#device = device;
    this.info = device.info;
  }

  get #live(): Device {
    if (this.#over) throw new LeaseOverError("What this pass belonged to has been unloaded");
    return this.#device;
  }

  allocate(words: number, label: string): View {
    const view = this.#live.allocate(words, label);
    this.#views.add(view);
    return view;
  }

  release(view: View): void {
    this.#live.release(view);
    this.#views.delete(view);
  }

  write(view: View, data: Words): void {
    this.#live.write(view, data);
  }

  clear(view: View): void {
    this.#live.clear(view);
  }

  copy(from: View, to: View): void {
    this.#live.copy(from, to);
  }

  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.#live.run(kernel, views, values);
  }

  async read(views: readonly View[]): Promise<ArrayBuffer[]> {
    const buffers = await this.#live.read(views);
    void this.#live;
    return buffers;
  }

  async readJoined(views: readonly View[]): Promise<ArrayBuffer> {
    const buffer = await this.#live.readJoined(views);
    void this.#live;
    return buffer;
  }

  flush(): void {
    this.#live.flush();
  }

  trim(): void {
    this.#live.trim();
  }

  memory(): { readonly held: number; readonly used: number; readonly peak: number } {
    return this.#device.memory();
  }

  /** Ends the loan: gives back all memory; the device itself stays open. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    for (const view of this.#views) this.#device.release(view);
    this.#views.clear();
  }
}
