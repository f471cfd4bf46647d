import {
  groupedNNPacked,
  groupedNTPacked,
  groupedTNPacked,
  matmulNNPacked,
  matmulNTAddPacked,
  matmulNTBiasPacked,
  matmulNTPacked,
  matmulTNPacked,
  packedWidth,
  packInto,
} from "../../kernels/mod.ts";
import {
  allTried,
  compare,
  GROUP_SHAPES,
  GROUPS,
  numbers,
  offsetsOf,
  SHAPES,
  withDevices,
} from "./products.ts";

/** Packed lines of numbers. */
function packed(lines: number, width: number, seed: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(lines * packedWidth(width));
  packInto(words, numbers(lines * width, seed), lines, width);
  return words;
}

Deno.test("Products of packed factors equal their references bit for bit in every variant", () =>
  withDevices(async (webgpu, reference) => {
    for (const kernel of [matmulNTPacked, matmulNNPacked, matmulTNPacked]) {
      const tried = new Set<string>();
      for (const [m, n, k] of SHAPES) {
        const a = kernel === matmulTNPacked ? packed(k, m, 1) : packed(m, k, 1);
        const b = kernel === matmulNTPacked ? packed(n, k, 2) : packed(k, n, 2);
        for (const accumulate of [0, 1]) {
          await compare(webgpu, reference, kernel, { a, b }, m * n, { m, n, k, accumulate }, tried);
        }
      }
      allTried(webgpu, kernel, tried);
    }
  }));

Deno.test("Packed products with a bias or a residual equal their references bit for bit in every variant", () =>
  withDevices(async (webgpu, reference) => {
    const withBias = new Set<string>(), withResidual = new Set<string>();
    for (const [m, n, k] of SHAPES) {
      const a = packed(m, k, 1), b = packed(n, k, 2), bias = numbers(n, 3), residual = numbers(m * n, 4);
      await compare(webgpu, reference, matmulNTBiasPacked, { a, b, bias }, m * n, { m, n, k }, withBias);
      await compare(
        webgpu,
        reference,
        matmulNTAddPacked,
        { a, b, residual },
        m * n,
        { m, n, k },
        withResidual,
      );
    }
    allTried(webgpu, matmulNTBiasPacked, withBias);
    allTried(webgpu, matmulNTAddPacked, withResidual);
  }));

Deno.test("Grouped products of packed factors equal their references bit for bit in every variant", () =>
  withDevices(async (webgpu, reference) => {
    for (const kernel of [groupedNTPacked, groupedNNPacked]) {
      const tried = new Set<string>();
      for (const { sizes, first, groups, beyond = 0 } of GROUPS) {
        const offsets = offsetsOf(sizes);
        const rows = offsets.at(-1)! + beyond;
        for (const [n, k] of GROUP_SHAPES) {
          const b = kernel === groupedNTPacked ? packed(groups * n, k, 6) : packed(groups * k, n, 6);
          const inputs = { a: packed(rows, k, 5), b, offsets };
          await compare(webgpu, reference, kernel, inputs, rows * n, { rows, n, k, first, groups }, tried);
        }
      }
      allTried(webgpu, kernel, tried);
    }
    const tried = new Set<string>();
    for (const { sizes, first, groups, beyond = 0 } of GROUPS) {
      const offsets = offsetsOf(sizes);
      const rows = offsets.at(-1)! + beyond;
      for (const [m, n] of GROUP_SHAPES) {
        const inputs = { a: packed(rows, m, 7), b: packed(rows, n, 8), offsets };
        for (const accumulate of [0, 1]) {
          const values = { rows, m, n, first, groups, accumulate };
          await compare(webgpu, reference, groupedTNPacked, inputs, groups * m * n, values, tried);
        }
      }
    }
    allTried(webgpu, groupedTNPacked, tried);
  }));
