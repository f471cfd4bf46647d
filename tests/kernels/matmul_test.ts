import { assert, assertEquals } from "@std/assert";
import {
  type Bindings,
  type Device,
  groupedNN,
  groupedNT,
  groupedTN,
  type Kernel,
  matmulNN,
  matmulNT,
  matmulNTAdd,
  matmulNTBias,
  matmulTN,
  type Params,
  referenceDevice,
  type Values,
  type View,
  type WebGpuDevice,
  webgpuDevice,
  type Words,
} from "../../kernels/mod.ts";
import { dense, type Finish, multiply, multiplyPlain, transposed } from "../../kernels/matmul/reference.ts";
import { simdPanels } from "../../kernels/matmul/simd.ts";

/** Words behind every output that nothing may touch. */
const GUARD = 64;

/** Numbers of both signs and many sizes, from a small linear congruence. */
function numbers(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 2 ** (state % 7);
  });
}

/** The bits that a call leaves in its output, which begins with `old`. */
async function result(
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
function runs(device: Device, { subgroup = device.info.subgroup }: { readonly subgroup?: number }): boolean {
  return subgroup === device.info.subgroup;
}

/** Runs one call in every variant that fits, and by the device's own choice; all must equal the reference bit for bit. */
async function compare<B extends Bindings, P extends Params>(
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
const SHAPES = [
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

async function withDevices(body: (webgpu: WebGpuDevice, reference: Device) => Promise<void>): Promise<void> {
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

function allTried(
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

for (const kernel of [matmulNT, matmulNN, matmulTN]) {
  Deno.test(`${kernel.name} equals its reference bit for bit in every variant`, () =>
    withDevices(async (webgpu, reference) => {
      const tried = new Set<string>();
      for (const [m, n, k] of SHAPES) {
        const inputs = { a: numbers(m * k, 1), b: numbers(n * k, 2) };
        for (const accumulate of [0, 1]) {
          await compare(webgpu, reference, kernel, inputs, m * n, { m, n, k, accumulate }, tried);
        }
      }
      allTried(webgpu, kernel, tried);
    }));
}

Deno.test("matmulNTBias and matmulNTAdd equal their references bit for bit in every variant", () =>
  withDevices(async (webgpu, reference) => {
    const withBias = new Set<string>();
    const withResidual = new Set<string>();
    for (const [m, n, k] of SHAPES) {
      const a = numbers(m * k, 1), b = numbers(n * k, 2), bias = numbers(n, 3), residual = numbers(m * n, 4);
      await compare(webgpu, reference, matmulNTBias, { a, b, bias }, m * n, { m, n, k }, withBias);
      await compare(webgpu, reference, matmulNTAdd, { a, b, residual }, m * n, { m, n, k }, withResidual);
    }
    allTried(webgpu, matmulNTBias, withBias);
    allTried(webgpu, matmulNTAdd, withResidual);
  }));

/** Sizes of all groups, the first group of a call and the number of its groups; rows behind the last group, if any. */
const GROUPS: readonly { sizes: number[]; first: number; groups: number; beyond?: number }[] = [
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
const GROUP_SHAPES = [[1, 1], [5, 7], [8, 12], [9, 8], [8, 9], [20, 36], [132, 8]] as const;

function offsetsOf(sizes: readonly number[]): Uint32Array<ArrayBuffer> {
  const offsets = new Uint32Array(sizes.length + 1);
  sizes.forEach((size, i) => offsets[i + 1] = offsets[i] + size);
  return offsets;
}

for (const kernel of [groupedNT, groupedNN]) {
  Deno.test(`${kernel.name} equals its reference bit for bit in every variant, other groups' rows untouched`, () =>
    withDevices(async (webgpu, reference) => {
      const tried = new Set<string>();
      for (const { sizes, first, groups, beyond = 0 } of GROUPS) {
        const offsets = offsetsOf(sizes);
        const rows = offsets.at(-1)! + beyond;
        for (const [n, k] of GROUP_SHAPES) {
          const inputs = { a: numbers(rows * k, 5), b: numbers(groups * n * k, 6), offsets };
          await compare(webgpu, reference, kernel, inputs, rows * n, { rows, n, k, first, groups }, tried);
        }
      }
      allTried(webgpu, kernel, tried);
    }));
}

Deno.test("groupedTN equals its reference bit for bit in every variant", () =>
  withDevices(async (webgpu, reference) => {
    const tried = new Set<string>();
    for (const { sizes, first, groups, beyond = 0 } of GROUPS) {
      const offsets = offsetsOf(sizes);
      const rows = offsets.at(-1)! + beyond;
      for (const [m, n] of GROUP_SHAPES) {
        const inputs = { a: numbers(rows * m, 7), b: numbers(rows * n, 8), offsets };
        for (const accumulate of [0, 1]) {
          const values = { rows, m, n, first, groups, accumulate };
          await compare(webgpu, reference, groupedTN, inputs, groups * m * n, values, tried);
        }
      }
    }
    allTried(webgpu, groupedTN, tried);
  }));

Deno.test("The preferred variant exists and fits, on CPUs and on GPUs, and large products differ between them", () => {
  const info = referenceDevice().info;
  const preferred = (kernel: Kernel, values: Record<string, number>, software: boolean) => {
    const name = kernel.prefer!(values, { ...info, software });
    const variant = kernel.variants.find((variant) => variant.name === name);
    assert(
      variant !== undefined && variant.fits!(values),
      `${kernel.name} ${name} ${JSON.stringify(values)}`,
    );
    return name;
  };
  const sizes = [1, 2, 3, 4, 7, 8, 31, 32, 64, 259, 512];
  for (const software of [true, false]) {
    for (const m of sizes) {
      for (const n of sizes) {
        for (const k of [1, 4, 259, 512]) {
          for (
            const kernel of [matmulNT, matmulNTAdd, matmulNTBias, matmulNN, matmulTN] as unknown as Kernel[]
          ) {
            for (const accumulate of [0, 1]) preferred(kernel, { m, n, k, accumulate }, software);
          }
          for (const kernel of [groupedNT, groupedNN, groupedTN] as unknown as Kernel[]) {
            preferred(kernel, { rows: m * 8, m, n, k, first: 0, groups: 8, accumulate: 1 }, software);
          }
        }
      }
    }
  }
  const large = { m: 512, n: 512, k: 512, accumulate: 0 };
  const plain = matmulNT as unknown as Kernel;
  assertEquals(preferred(plain, large, true), "8x8 vvv set");
  assertEquals(plain.prefer!(large, { ...info, software: true, subgroup: 8 }), "together 32x8 vvv set");
  assertEquals(preferred(plain, large, false), "shared set");
});

Deno.test("The reference by vectors equals the plain one bit for bit in every layout and ending", () => {
  // Tiny and huge numbers are among them: vectors must not flush denormals or fuse operations.
  const wild = (length: number, seed: number) =>
    numbers(length, seed).map((x, i) => x * 2 ** (i % 9 * 30 - 120));
  for (
    const [m, n, k] of [[4, 8, 128], [2, 65, 33], [37, 41, 19], [9, 3, 701], [70, 17, 9000], [131, 128, 67]]
  ) {
    const a = wild(m * k + 5, 1), b = wild(n * k + 3, 2), extra = numbers(m * n + 7, 3);
    const layouts = [
      [dense(a, 5, k), transposed(b, 3, k)],
      [dense(a, 5, k), dense(b, 3, n)],
      [transposed(a, 5, m), dense(b, 3, n)],
    ];
    const endings: Finish[] = [
      { kind: "set" },
      { kind: "accumulate" },
      { kind: "bias", words: extra },
      { kind: "add", words: extra },
    ];
    for (const [x, y] of layouts) {
      for (const ending of endings) {
        const fast = numbers(m * n + 7, 4), plain = fast.slice();
        multiply(m, n, k, x, y, dense(fast, 7, n), ending);
        multiplyPlain(m, n, k, x, y, dense(plain, 7, n), ending);
        assertEquals(
          new Uint32Array(fast.buffer),
          new Uint32Array(plain.buffer),
          `${[m, n, k]} ${ending.kind}`,
        );
      }
    }
  }
});

Deno.test("This engine has vectors", () => assert(simdPanels() !== undefined));

Deno.test("The reference adds products in order of k, rounding after every operation", async () => {
  const device = referenceDevice();
  const [m, n, k] = [6, 5, 19];
  const a = numbers(m * k, 1), b = numbers(n * k, 2);
  const expected = new Float32Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) sum = Math.fround(sum + Math.fround(a[i * k + l] * b[j * k + l]));
      expected[i * n + j] = sum;
    }
  }
  const run = (views: Record<string, View>) =>
    device.run(matmulNT, views as { a: View; b: View; c: View }, { m, n, k, accumulate: 0 });
  assertEquals(
    await result(device, run, { a, b }, new Float32Array(m * n)),
    new Uint32Array(expected.buffer),
  );
  device.close();
});
