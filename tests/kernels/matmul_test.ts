import { assert, assertEquals } from "@std/assert";
import {
  groupedNN,
  groupedNT,
  groupedTN,
  type Kernel,
  matmulNN,
  matmulNT,
  matmulNTAdd,
  matmulNTBias,
  matmulTN,
  referenceDevice,
  type View,
} from "../../kernels/mod.ts";
import { dense, type Finish, multiply, multiplyPlain, transposed } from "../../kernels/matmul/reference.ts";
import { simdPanels } from "../../kernels/matmul/simd.ts";
import {
  allTried,
  compare,
  GROUP_SHAPES,
  GROUPS,
  numbers,
  offsetsOf,
  result,
  SHAPES,
  withDevices,
} from "./products.ts";

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
  assertEquals(plain.prefer!(large, { ...info, software: true, subgroup: 8 }), "together 40x8 vvv set");
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
