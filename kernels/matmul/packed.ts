/**
 * The products of matmul.ts and grouped.ts with both factors as packed rows of bf16 (see bf16/format.ts). Products of two
 * bf16 numbers are exact in f32, sums are f32 in order of k, and so is the result.
 *
 * @module
 */
import { unpackRows } from "../bf16/format.ts";
import { defineKernel } from "../kernel.ts";
import { groupedCost, groupedGradientCost, matmulAddCost, matmulBiasCost, matmulCost } from "./cost.ts";
import * as grouped from "./grouped.ts";
import * as plain from "./matmul.ts";
import { formsOf } from "./variants.ts";

/** Bytes of an element of a factor. */
const ELEMENT = 2;

const FACTORS = { a: "u32 read", b: "u32 read" } as const;

/** Packed factors, each so many lines of so many elements, as what the f32 kernels take. */
function unpacked(
  a: Uint32Array,
  [aLines, aWidth]: readonly [number, number],
  b: Uint32Array,
  [bLines, bWidth]: readonly [number, number],
): { a: Float32Array; b: Float32Array } {
  return { a: unpackRows(a, aLines, aWidth), b: unpackRows(b, bLines, bWidth) };
}

/** {@linkcode plain.matmulNT} of packed factors. */
export const matmulNTPacked = defineKernel({
  name: "matmulNTPacked",
  bindings: { ...FACTORS, c: "f32 write" },
  params: plain.matmulNT.params,
  ...formsOf({ ...plain.nt, packed: true }),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate, ELEMENT),
  reference({ a, b, c }, values) {
    const { m, n, k } = values;
    plain.matmulNT.reference({ ...unpacked(a, [m, k], b, [n, k]), c }, values);
  },
});

/** {@linkcode plain.matmulNTBias} of packed factors. */
export const matmulNTBiasPacked = defineKernel({
  name: "matmulNTBiasPacked",
  bindings: { ...FACTORS, bias: "f32 read", c: "f32 write" },
  params: plain.matmulNTBias.params,
  ...formsOf({ ...plain.ntBias, packed: true }),
  cost: ({ m, n, k }) => matmulBiasCost(m, n, k, ELEMENT),
  reference({ a, b, bias, c }, values) {
    const { m, n, k } = values;
    plain.matmulNTBias.reference({ ...unpacked(a, [m, k], b, [n, k]), bias, c }, values);
  },
});

/** {@linkcode plain.matmulNTAdd} of packed factors. */
export const matmulNTAddPacked = defineKernel({
  name: "matmulNTAddPacked",
  bindings: { ...FACTORS, residual: "f32 read", c: "f32 write" },
  params: plain.matmulNTAdd.params,
  ...formsOf({ ...plain.ntAdd, packed: true }),
  cost: ({ m, n, k }) => matmulAddCost(m, n, k, ELEMENT),
  reference({ a, b, residual, c }, values) {
    const { m, n, k } = values;
    plain.matmulNTAdd.reference({ ...unpacked(a, [m, k], b, [n, k]), residual, c }, values);
  },
});

/** {@linkcode plain.matmulNN} of packed factors. */
export const matmulNNPacked = defineKernel({
  name: "matmulNNPacked",
  bindings: { ...FACTORS, c: "f32 write" },
  params: plain.matmulNN.params,
  ...formsOf({ ...plain.nn, packed: true }),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate, ELEMENT),
  reference({ a, b, c }, values) {
    const { m, n, k } = values;
    plain.matmulNN.reference({ ...unpacked(a, [m, k], b, [k, n]), c }, values);
  },
});

/** {@linkcode plain.matmulTN} of packed factors. */
export const matmulTNPacked = defineKernel({
  name: "matmulTNPacked",
  bindings: { ...FACTORS, c: "f32 write" },
  params: plain.matmulTN.params,
  ...formsOf({ ...plain.tn, packed: true }),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate, ELEMENT),
  reference({ a, b, c }, values) {
    const { m, n, k } = values;
    plain.matmulTN.reference({ ...unpacked(a, [k, m], b, [k, n]), c }, values);
  },
});

const GROUPED = { ...FACTORS, offsets: "u32 read", c: "f32 write" } as const;

/** {@linkcode grouped.groupedNT} of packed factors. */
export const groupedNTPacked = defineKernel({
  name: "groupedNTPacked",
  bindings: GROUPED,
  params: grouped.groupedNT.params,
  ...formsOf({ ...grouped.nt, packed: true }),
  cost: ({ rows, n, k, groups }) => groupedCost(rows, n, k, groups, ELEMENT),
  reference({ a, b, offsets, c }, values) {
    const { rows, n, k, groups } = values;
    grouped.groupedNT.reference({ ...unpacked(a, [rows, k], b, [groups * n, k]), offsets, c }, values);
  },
});

/** {@linkcode grouped.groupedNN} of packed factors. */
export const groupedNNPacked = defineKernel({
  name: "groupedNNPacked",
  bindings: GROUPED,
  params: grouped.groupedNN.params,
  ...formsOf({ ...grouped.nn, packed: true }),
  cost: ({ rows, n, k, groups }) => groupedCost(rows, n, k, groups, ELEMENT),
  reference({ a, b, offsets, c }, values) {
    const { rows, n, k, groups } = values;
    grouped.groupedNN.reference({ ...unpacked(a, [rows, k], b, [groups * k, n]), offsets, c }, values);
  },
});

/** {@linkcode grouped.groupedTN} of packed factors. */
export const groupedTNPacked = defineKernel({
  name: "groupedTNPacked",
  bindings: GROUPED,
  params: grouped.groupedTN.params,
  ...formsOf({ ...grouped.tn, packed: true }),
  cost: ({ rows, m, n, groups, accumulate }) => groupedGradientCost(rows, m, n, groups, accumulate, ELEMENT),
  reference({ a, b, offsets, c }, values) {
    const { rows, m, n } = values;
    grouped.groupedTN.reference({ ...unpacked(a, [rows, m], b, [rows, n]), offsets, c }, values);
  },
});
