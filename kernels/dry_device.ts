/**
 * A device that computes nothing and remembers how much memory it was asked for: what a pass takes, at any size, at once.
 *
 * @module
 */
import type { Device, View, Words } from "./device.ts";
import type { DeviceInfo } from "./device_info.ts";
import type { Bindings, Kernel, Params, Values } from "./kernel.ts";

/** Kernels leave everything as it is, and whatever is read is zero. */
export class DryDevice implements Device {
  readonly info: DeviceInfo = {
    kind: "reference",
    name: "nothing but accounts",
    vendor: "",
    architecture: "",
    software: true,
    subgroup: 0,
    maxBinding: 2 ** 40,
    maxAllocation: 2 ** 40,
  };
  #used = 0;
  #peak = 0;

  allocate(words: number, label: string): View {
    this.#used += 4 * words;
    this.#peak = Math.max(this.#peak, this.#used);
    return { memory: { words, label }, offset: 0, length: words };
  }
  release(view: View): void {
    this.#used -= 4 * view.length;
  }
  write(_view: View, _data: Words): void {}
  clear(_view: View): void {}
  copy(_from: View, _to: View): void {}
  run<B extends Bindings, P extends Params>(
    _kernel: Kernel<B, P>,
    _views: { readonly [Name in keyof B]: View },
    _values: Values<P>,
  ): void {}
  read(views: readonly View[]): Promise<ArrayBuffer[]> {
    return Promise.resolve(views.map((view) => new ArrayBuffer(4 * view.length)));
  }
  readJoined(views: readonly View[]): Promise<ArrayBuffer> {
    return Promise.resolve(new ArrayBuffer(views.reduce((sum, { length }) => sum + 4 * length, 0)));
  }
  flush(): void {}
  trim(): void {}
  memory(): { readonly held: number; readonly used: number; readonly peak: number } {
    return { held: this.#used, used: this.#used, peak: this.#peak };
  }
  close(): void {}
}
