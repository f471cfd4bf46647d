/** What the tests of matrix products share: shapes that are awkward, and a call in every variant against the reference. */
import { assert, assertEquals } from "@std/assert";
import {
  type Bindings,
  type Device,
  type Kernel,
  type Params,
  referenceDevice,
  type Values,
  type View,
  type WebGpuDevice,
  webgpuDevice,
  type Words,
} from "../../kernels/mod.ts";

/** Words behind every output that nothing may touch. */
const GUARD = 64;

/** Numbers of both signs and many sizes, from a small linear congruence. */
export function numbers(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 2 ** (state % 7);
  });
}

/** The bits that a call leaves in its output, which begins with `old`. */
export async function result(
  device: Device,
  run: (views: Record<string, View>) => void,
  inputs: Record<string, Words>,
  old: Words,
): Promise<Uint32Array> {
  const views: Record<string, View> = {};
  for (const [name, words] of Object.entries({ ...inputs, c: old })) {
    views[name] = device.allocate(words.length, name);
    device.write(views[name], words);
  }
  run(views);
  const [buffer] = await device.read([views.c]);
  for (const view of Object.values(views)) device.release(view);
  return new Uint32Array(buffer);
}

/** Whether a device can run a variant: those for subgroups of another size are for other adapters. */
function runs(
  device: Device,
  { subgroup = device.info.subgroup }: { readonly subgroup?: number },
): boolean {
  return subgroup === device.info.subgroup;
}

/** Runs one call in every variant that fits, and by the device's own choice; all must equal the reference bit for bit. */
export async function compare<B extends Bindings, P extends Params>(
  webgpu: WebGpuDevice,
  reference: Device,
  kernel: Kernel<B, P>,
  inputs: Record<string, Words>,
  outputs: number,
  values: Values<P>,
  tried: Set<string>,
): Promise<void> {
  const plain = kernel as unknown as Kernel;
  const old = numbers(outputs + GUARD, 99);
  const expected = await result(reference, (views) => reference.run(plain, views, values), inputs, old);
  const names = plain.variants.filter((variant) => variant.fits!(values) && runs(webgpu, variant))
    .map(({ name }) => name);
  assert(names.length > 0, `${kernel.name} has no variant for ${JSON.stringify(values)}`);
  for (const name of [undefined, ...names]) {
    const got = await result(webgpu, (views) => webgpu.run(plain, views, values, name), inputs, old);
    const wrong = got.findIndex((word, i) => word !== expected[i]);
    assertEquals(
      wrong,
      -1,
      `${kernel.name} ${name ?? "as chosen"} ${JSON.stringify(values)} differs at ${wrong}`,
    );
    if (name !== undefined) tried.add(name);
  }
}

/** Rows, columns, terms: ones, primes, multiples of four in each combination, beyond a workgroup of the largest tile. */
export const SHAPES = [
  [1, 1, 1],
  [3, 5, 7],
  [17, 19, 23],
  [4, 4, 4],
  [1, 128, 64],
  [31, 36, 13],
  [13, 37, 8],
  [20, 37, 6],
  [20, 37, 8],
  [64, 20, 5],
  [37, 132, 12],
  [40, 260, 37],
  [260, 5, 3],
  [131, 67, 29],
] as const;

export async function withDevices(
  body: (webgpu: WebGpuDevice, reference: Device) => Promise<void>,
): Promise<void> {
  // Throws, and so fails, where there is no adapter: programs that have not run have not been tested.
  const webgpu = await webgpuDevice();
  const reference = referenceDevice();
  try {
    await body(webgpu, reference);
  } finally {
    webgpu.close();
    reference.close();
  }
}

export function allTried(
  device: Device,
  kernel: { readonly name: string; readonly variants: readonly { name: string; subgroup?: number }[] },
  tried: Set<string>,
) {
  assertEquals(
    kernel.variants.filter((variant) => runs(device, variant) && !tried.has(variant.name)).map(({ name }) =>
      name
    ),
    [],
    kernel.name,
  );
}

/** Sizes of all groups, the first group of a call and the number of its groups; rows behind the last group, if any. */
export const GROUPS: readonly { sizes: number[]; first: number; groups: number; beyond?: number }[] = [
  { sizes: [5], first: 0, groups: 1 },
  { sizes: [0, 7, 0, 1, 33, 16, 0], first: 0, groups: 7 },
  { sizes: [0, 0, 41, 0], first: 0, groups: 4 },
  { sizes: [3, 17, 0, 20, 2], first: 1, groups: 3 },
  { sizes: [4, 0, 6], first: 1, groups: 1, beyond: 37 },
  { sizes: [19, 2, 30], first: 0, groups: 3, beyond: 90 },
  { sizes: [0, 0], first: 0, groups: 2 },
  { sizes: Array.from({ length: 70 }, (_, i) => i % 3), first: 2, groups: 66 },
];

/** Columns and terms of a group's product (rows and columns of a group's gradient). */
export const GROUP_SHAPES = [[1, 1], [5, 7], [8, 12], [9, 8], [8, 9], [20, 36], [132, 8]] as const;

export function offsetsOf(sizes: readonly number[]): Uint32Array<ArrayBuffer> {
  const offsets = new Uint32Array(sizes.length + 1);
  sizes.forEach((size, i) => offsets[i + 1] = offsets[i] + size);
  return offsets;
}
