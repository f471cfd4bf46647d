/**
 * Matrix products in the layouts that training needs: weights are stored [out, in], so a forward pass is `nt`, the
 * gradient of an input `nn`, and the gradient of a weight `tn`.
 *
 * All variants and the reference agree bit for bit: each sum starts at zero, adds its products in order of k, and
 * meets the old result, the bias or the residual once, at the end.
 *
 * @module
 */
import { defineKernel, type Values } from "../kernel.ts";
import { matmulAddCost, matmulBiasCost, matmulCost } from "./cost.ts";
import { dense, type Finish, multiply, transposed } from "./reference.ts";
import { always, type Family, setOrAccumulate, type Shape } from "./family.ts";
import { formsOf } from "./variants.ts";

const SIZES = { m: "u32", n: "u32", k: "u32" } as const;
const SIZES_ACCUMULATE = { ...SIZES, accumulate: "u32" } as const;
const OPERANDS = { a: "f32 read", b: "f32 read", c: "f32 write" } as const;

const shape = ({ m, n, k }: Values<typeof SIZES>) => ({ m, n, k, groups: 1 });

const withShape = <V extends Values<typeof SIZES>>(values: V, { m, n, k }: Shape) => ({ ...values, m, n, k });

function finish(accumulate: number): Finish {
  return { kind: accumulate === 0 ? "set" : "accumulate" };
}

/** How {@linkcode matmulNT} is computed. */
export const nt: Family<typeof SIZES_ACCUMULATE> = {
  layout: "nt",
  ...setOrAccumulate,
  grouped: false,
  shape,
  withShape,
};

/** c[m,n] = a[m,k] b[n,k]^T, added to c where `accumulate` is 1: y = x W^T. */
export const matmulNT = defineKernel({
  name: "matmulNT",
  bindings: OPERANDS,
  params: SIZES_ACCUMULATE,
  ...formsOf(nt),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate),
  reference({ a, b, c }, { m, n, k, accumulate }) {
    multiply(m, n, k, dense(a, 0, k), transposed(b, 0, k), dense(c, 0, n), finish(accumulate));
  },
});

/** How {@linkcode matmulNTBias} is computed. */
export const ntBias: Family<typeof SIZES> = {
  layout: "nt",
  ...always("bias"),
  grouped: false,
  shape,
  withShape,
};

/** c[m,n] = a[m,k] b[n,k]^T + bias[n]. */
export const matmulNTBias = defineKernel({
  name: "matmulNTBias",
  bindings: { a: "f32 read", b: "f32 read", bias: "f32 read", c: "f32 write" },
  params: SIZES,
  ...formsOf(ntBias),
  cost: ({ m, n, k }) => matmulBiasCost(m, n, k),
  reference({ a, b, bias, c }, { m, n, k }) {
    multiply(m, n, k, dense(a, 0, k), transposed(b, 0, k), dense(c, 0, n), { kind: "bias", words: bias });
  },
});

/** How {@linkcode matmulNTAdd} is computed. */
export const ntAdd: Family<typeof SIZES> = {
  layout: "nt",
  ...always("add"),
  grouped: false,
  shape,
  withShape,
};

/** c[m,n] = residual[m,n] + a[m,k] b[n,k]^T. */
export const matmulNTAdd = defineKernel({
  name: "matmulNTAdd",
  bindings: { a: "f32 read", b: "f32 read", residual: "f32 read", c: "f32 write" },
  params: SIZES,
  ...formsOf(ntAdd),
  cost: ({ m, n, k }) => matmulAddCost(m, n, k),
  reference({ a, b, residual, c }, { m, n, k }) {
    multiply(m, n, k, dense(a, 0, k), transposed(b, 0, k), dense(c, 0, n), { kind: "add", words: residual });
  },
});

/** How {@linkcode matmulNN} is computed. */
export const nn: Family<typeof SIZES_ACCUMULATE> = {
  layout: "nn",
  ...setOrAccumulate,
  grouped: false,
  shape,
  withShape,
};

/** c[m,n] = a[m,k] b[k,n], added to c where `accumulate` is 1: dX = dY W. */
export const matmulNN = defineKernel({
  name: "matmulNN",
  bindings: OPERANDS,
  params: SIZES_ACCUMULATE,
  ...formsOf(nn),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate),
  reference({ a, b, c }, { m, n, k, accumulate }) {
    multiply(m, n, k, dense(a, 0, k), dense(b, 0, n), dense(c, 0, n), finish(accumulate));
  },
});

/** How {@linkcode matmulTN} is computed. */
export const tn: Family<typeof SIZES_ACCUMULATE> = {
  layout: "tn",
  ...setOrAccumulate,
  grouped: false,
  shape,
  withShape,
};

/** c[m,n] = a[k,m]^T b[k,n], added to c where `accumulate` is 1: dW = dY^T X. */
export const matmulTN = defineKernel({
  name: "matmulTN",
  bindings: OPERANDS,
  params: SIZES_ACCUMULATE,
  ...formsOf(tn),
  cost: ({ m, n, k, accumulate }) => matmulCost(m, n, k, accumulate),
  reference({ a, b, c }, { m, n, k, accumulate }) {
    multiply(m, n, k, transposed(a, 0, m), dense(b, 0, n), dense(c, 0, n), finish(accumulate));
  },
});
