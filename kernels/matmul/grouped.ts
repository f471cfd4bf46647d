/**
 * Products of rows with the matrix of their group: all experts of a layer in one dispatch. Rows lie in order of group;
 * group g (0 to groups-1) owns rows offsets[first+g] to offsets[first+g+1]. Nothing is padded to the fullest group:
 * tiles are handed out group by group, and a group's last tile is the only one that is not full.
 *
 * @module
 */
import { defineKernel, type Values } from "../kernel.ts";
import { groupedCost, groupedGradientCost } from "./cost.ts";
import { dense, multiply, transposed } from "./reference.ts";
import { always, type Family, setOrAccumulate, type Shape } from "./family.ts";
import { formsOf } from "./variants.ts";

const PARAMS = { rows: "u32", n: "u32", k: "u32", first: "u32", groups: "u32" } as const;
const GRADIENT_PARAMS = {
  rows: "u32",
  m: "u32",
  n: "u32",
  first: "u32",
  groups: "u32",
  accumulate: "u32",
} as const;
const OPERANDS = { a: "f32 read", b: "f32 read", offsets: "u32 read", c: "f32 write" } as const;

const shape = ({ rows, n, k, groups }: Values<typeof PARAMS>) => ({ m: rows, n, k, groups });

const withShape = (_: Values<typeof PARAMS>, { m, n, k, groups }: Shape) => ({
  rows: m,
  n,
  k,
  first: 0,
  groups,
});

/** How {@linkcode groupedNT} is computed. */
export const nt: Family<typeof PARAMS> = { layout: "nt", ...always("set"), grouped: true, shape, withShape };

/** c[rows,n] = a[rows,k] b_g[n,k]^T, b holds [groups,n,k]. Rows of no group are left as they are. */
export const groupedNT = defineKernel({
  name: "groupedNT",
  bindings: OPERANDS,
  params: PARAMS,
  ...formsOf(nt),
  cost: ({ rows, n, k, groups }) => groupedCost(rows, n, k, groups),
  reference({ a, b, offsets, c }, { n, k, first, groups }) {
    for (let group = 0; group < groups; group++) {
      const start = offsets[first + group];
      const rows = offsets[first + group + 1] - start;
      const weight = transposed(b, group * n * k, k);
      multiply(rows, n, k, dense(a, start * k, k), weight, dense(c, start * n, n), { kind: "set" });
    }
  },
});

/** How {@linkcode groupedNN} is computed. */
export const nn: Family<typeof PARAMS> = { layout: "nn", ...always("set"), grouped: true, shape, withShape };

/** c[rows,n] = a[rows,k] b_g[k,n], b holds [groups,k,n]. Rows of no group are left as they are. */
export const groupedNN = defineKernel({
  name: "groupedNN",
  bindings: OPERANDS,
  params: PARAMS,
  ...formsOf(nn),
  cost: ({ rows, n, k, groups }) => groupedCost(rows, n, k, groups),
  reference({ a, b, offsets, c }, { n, k, first, groups }) {
    for (let group = 0; group < groups; group++) {
      const start = offsets[first + group];
      const rows = offsets[first + group + 1] - start;
      const weight = dense(b, group * n * k, n);
      multiply(rows, n, k, dense(a, start * k, k), weight, dense(c, start * n, n), { kind: "set" });
    }
  },
});

/** How {@linkcode groupedTN} is computed. */
export const tn: Family<typeof GRADIENT_PARAMS> = {
  layout: "tn",
  ...setOrAccumulate,
  grouped: true,
  shape: ({ rows, m, n, groups }) => ({ m, n, k: rows, groups }),
  withShape: ({ accumulate }, { m, n, k, groups }) => ({ rows: k, m, n, first: 0, groups, accumulate }),
};

/**
 * c_g[m,n] = sum over the group's rows r of a[r,m] b[r,n], in order of rows, added to c where `accumulate` is 1;
 * c holds [groups,m,n]. A group without rows gives zeros, or adds nothing.
 */
export const groupedTN = defineKernel({
  name: "groupedTN",
  bindings: OPERANDS,
  params: GRADIENT_PARAMS,
  ...formsOf(tn),
  cost: ({ rows, m, n, groups, accumulate }) => groupedGradientCost(rows, m, n, groups, accumulate),
  reference({ a, b, offsets, c }, { m, n, first, groups, accumulate }) {
    for (let group = 0; group < groups; group++) {
      const start = offsets[first + group];
      const rows = offsets[first + group + 1] - start;
      const kind = accumulate === 0 ? "set" : "accumulate";
      const result = dense(c, group * m * n, n);
      multiply(m, n, rows, transposed(a, start * m, m), dense(b, start * n, n), result, { kind });
    }
  },
});
