/**
 * Both devices for a test file, and ways to run one kernel on both and compare. Without a WebGPU adapter importing this fails, and
 * with it the tests: a kernel that was not run on WebGPU has not been tested.
 *
 * @module
 */
import { assert } from "@std/assert";
import {
  type Bindings,
  type Device,
  type Kernel,
  type Params,
  referenceDevice,
  type Values,
  type Words,
} from "../../kernels/mod.ts";
import { type WebGpuDevice, webgpuDevice } from "../../kernels/webgpu/device.ts";

/** The WebGPU device of this test file. Throws NoAdapterError, which says what to install. */
export const gpu: WebGpuDevice = await webgpuDevice();

/** The plain-array device of this test file. */
export const reference: Device = referenceDevice();

Deno.test.afterAll(() => {
  gpu.close();
  reference.close();
});

/** Host data for every binding of a kernel, by name. */
export type HostArrays<B extends Bindings> = { readonly [Name in keyof B]: Words };

/** Uploads all arrays, runs the kernel (on WebGPU by the named variant, if one is named), and returns what it may have written. */
export async function runKernel<B extends Bindings, P extends Params>(
  device: Device,
  kernel: Kernel<B, P>,
  arrays: HostArrays<B>,
  values: Values<P>,
  variant?: string,
): Promise<Record<string, Words>> {
  const views = Object.fromEntries(
    Object.entries(arrays as Record<string, Words>).map(([name, data]) => {
      const view = device.allocate(data.length, name);
      device.write(view, data);
      return [name, view];
    }),
  ) as Record<string, ReturnType<Device["allocate"]>>;
  const typed = views as { readonly [Name in keyof B]: ReturnType<Device["allocate"]> };
  if (device === gpu) gpu.run(kernel, typed, values, variant);
  else device.run(kernel, typed, values);
  const written = Object.keys(kernel.bindings).filter((name) => kernel.bindings[name].endsWith("write"));
  const buffers = await device.read(written.map((name) => views[name]));
  for (const view of Object.values(views)) device.release(view);
  return Object.fromEntries(written.map((name, i) => [
    name,
    kernel.bindings[name].startsWith("u32") ? new Uint32Array(buffers[i]) : new Float32Array(buffers[i]),
  ]));
}

/** How far a value may lie from the reference's: absolute + relative * |reference|. */
export interface Tolerance {
  readonly absolute: number;
  readonly relative: number;
}

/** Asserts that `actual` is as close to `expected` as the tolerance says; a NaN is never close. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { absolute, relative }: Tolerance,
  what: string,
): void {
  assert(actual.length === expected.length, `${what}: ${actual.length} values instead of ${expected.length}`);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    assert(
      error <= absolute + relative * Math.abs(expected[i]),
      `${what}[${i}] is ${actual[i]} instead of ${expected[i]}`,
    );
  }
}

/**
 * Runs every variant that fits on WebGPU, asserts that what they may have written is the same bit for bit, and compares it with
 * the reference's.
 */
export async function compareVariants<B extends Bindings, P extends Params>(
  kernel: Kernel<B, P>,
  arrays: HostArrays<B>,
  values: Values<P>,
  tolerance: Tolerance,
): Promise<void> {
  const expected = await runKernel(reference, kernel, arrays, values);
  let first: Record<string, Words> | undefined;
  for (const variant of kernel.variants) {
    if (variant.fits?.(values) === false) continue;
    const actual = await runKernel(gpu, kernel, arrays, values, variant.name);
    first ??= actual;
    for (const name of Object.keys(expected)) {
      const what = `${kernel.name}/${variant.name} ${JSON.stringify(values)} ${name}`;
      assertClose(actual[name], expected[name], tolerance, what);
      assertSameBits(actual[name], first[name], `${what} beside another variant's`);
    }
  }
}

/** Asserts that every word is the same, NaNs and signs of zeros included. */
function assertSameBits(actual: Words, expected: Words, what: string): void {
  const a = new Uint32Array(actual.buffer, actual.byteOffset, actual.length);
  const b = new Uint32Array(expected.buffer, expected.byteOffset, expected.length);
  const at = a.findIndex((word, i) => word !== b[i]);
  assert(a.length === b.length && at === -1, `${what}: [${at}] is ${actual[at]} instead of ${expected[at]}`);
}

/** Numbers between -1 and 1 that depend on `seed` alone. */
export function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  // A 32-bit linear congruential generator (Numerical Recipes) is random enough to tell a wrong sum from a right one.
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}
