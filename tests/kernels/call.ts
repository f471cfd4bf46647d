/** Runs one kernel on host arrays, on every kind of device, for tests. */
import type { Device, View, Words } from "../../kernels/device.ts";
import type { Arrays, Bindings, Kernel, Params, Values } from "../../kernels/kernel.ts";
import { openDevice } from "../../kernels/open.ts";

/**
 * Registers one test for WebGPU and one for plain arrays. Each gets its device, and a device of plain arrays to compare with.
 * Without an adapter the first fails: a kernel that has not run has not been tested.
 */
export function onDevices(name: string, body: (device: Device, reference: Device) => Promise<void>): void {
  for (const kind of ["webgpu", "reference"] as const) {
    Deno.test(`${name} (${kind})`, async () => {
      const device = await openDevice({ kind });
      const reference = await openDevice({ kind: "reference" });
      try {
        await body(device, reference);
      } finally {
        device.close();
        reference.close();
      }
    });
  }
}

/**
 * Uploads `arrays`, runs `kernel` and answers with the contents of every binding that it writes (what it reads is left as
 * it was given). Binding the arrays at an odd place of a larger allocation is the device's business, not this helper's.
 */
export async function call<B extends Bindings, P extends Params>(
  device: Device,
  kernel: Kernel<B, P>,
  arrays: { readonly [Name in keyof B]: Words },
  values: Values<P>,
): Promise<Arrays<B>> {
  const names = Object.keys(kernel.bindings) as (keyof B & string)[];
  const views = Object.fromEntries(names.map((name) => {
    const view = device.allocate(Math.max(1, arrays[name].length), name);
    device.write(view, arrays[name]);
    return [name, view];
  })) as { [Name in keyof B]: View };
  device.run(kernel, views, values);
  const buffers = await device.read(names.map((name) => views[name]));
  for (const name of names) device.release(views[name]);
  return Object.fromEntries(names.map((name, i) => {
    const length = arrays[name].length;
    return [
      name,
      arrays[name] instanceof Uint32Array
        ? new Uint32Array(buffers[i], 0, length)
        : new Float32Array(buffers[i], 0, length),
    ];
  })) as unknown as Arrays<B>;
}

/** The largest |a - b| over max(|b|, floor), or infinity where one of them is not finite. */
export function largestError(a: ArrayLike<number>, b: ArrayLike<number>, floor: number): number {
  if (a.length !== b.length) throw new Error(`Cannot compare ${a.length} numbers with ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    if (!Number.isFinite(a[i]) || !Number.isFinite(b[i])) return Infinity;
    largest = Math.max(largest, Math.abs(a[i] - b[i]) / Math.max(Math.abs(b[i]), floor));
  }
  return largest;
}
