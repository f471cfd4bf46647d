/**
 * Device memory that is given back together.
 *
 * @module
 */
import type { Device, View } from "../kernels/mod.ts";

/** Spans taken from a device's pool, each given back once: alone, or with all that is left. */
export class Scope {
  readonly #device: Device;
  readonly #views = new Set<View>();

  constructor(device: Device) {
    this.#device = device;
  }

  /** A span of `words` words, contents unspecified. */
  take(words: number, label: string): View {
    const view = this.#device.allocate(words, label);
    this.#views.add(view);
    return view;
  }

  /** Makes a span that was taken elsewhere part of this scope. */
  adopt(view: View): View {
    this.#views.add(view);
    return view;
  }

  /** Gives one span back early. */
  drop(view: View): void {
    if (this.#views.delete(view)) this.#device.release(view);
  }

  /** Gives back all but these. */
  releaseBut(kept: ReadonlySet<View>): void {
    for (const view of [...this.#views]) if (!kept.has(view)) this.drop(view);
  }

  /** Gives back all that is left. */
  release(): void {
    for (const view of this.#views) this.#device.release(view);
    this.#views.clear();
  }
}
