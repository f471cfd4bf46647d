/**
 * Work that a device was given: how words get there and back, when it has been done, and how long it took.
 *
 * @module
 */
import type { Device, View } from "../kernels/mod.ts";
import { BusyClock } from "./busy_clock.ts";
import { type Duty, DutyClock } from "./duty_clock.ts";

/** Pieces of work on a device; their memory is of `whole` or of loans from it. */
export class DeviceWork {
  /** Counts the time of pieces of work; a device of which only a share is lent rests after each. */
  readonly clock: BusyClock;
  readonly #whole: Device;
  /** Work was started whose end nobody has waited for. */
  #running = false;
  /** What is read to wait for it. */
  #word: View | undefined;

  /** `now` gives milliseconds; without `duty` the mesh has all of the device's time. */
  constructor(
    whole: Device,
    { now, duty }: { readonly now: () => number; readonly duty?: Pick<Duty, "share" | "rest"> },
  ) {
    this.#whole = whole;
    this.clock = duty === undefined
      ? new BusyClock(now)
      : new DutyClock({ ...duty, now, settled: () => this.#settled() });
  }

  /** Words from the host as a span of the device, the caller's; undefined where there are none. */
  upload(device: Device, bytes: ArrayBuffer | undefined, label: string): View | undefined {
    if (bytes === undefined) return undefined;
    const view = device.allocate(bytes.byteLength / 4, label);
    device.write(view, new Float32Array(bytes));
    return view;
  }

  /** Takes a span back to the host and releases it; with none only starts the work. */
  async download(device: Device, view: View | undefined): Promise<ArrayBuffer | undefined> {
    if (view === undefined) {
      this.start(device);
      return undefined;
    }
    const [bytes] = await device.read([view]);
    device.release(view);
    return bytes;
  }

  /** Starts what was given to the device, without waiting for its end. */
  start(device: Device): void {
    device.flush();
    this.#running = true;
  }

  /** Resolves at that end: a word that is read comes behind it. */
  async #settled(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#word ??= this.#whole.allocate(1, "end of a piece of work");
    await this.#whole.read([this.#word]);
  }
}
