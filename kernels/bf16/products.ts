/**
 * Products of packed operands in their plainest form, one lane a sum.
 *
 * @module
 */
import { type Bindings, defineKernel } from "../kernel.ts";
import { dense, type Finish, multiply, transposed } from "../matmul/reference.ts";
import { unpackRows } from "./format.ts";

const U =
  `fn un(word: u32, odd: u32) -> f32 { return bitcast<f32>(select(word << 16u, word & 0xffff0000u, odd == 1u)); }
`;
function body(layout: string, finish: string, grouped: boolean): string {
  const A = layout === "tn"
    ? "un(a[k * ((params.m + 1u) / 2u) + i / 2u], i & 1u)"
    : "un(a[i * ((params.k + 1u) / 2u) + k / 2u], k & 1u)";
  const B = layout === "nt"
    ? "un(b[base + j * ((params.k + 1u) / 2u) + k / 2u], k & 1u)"
    : "un(b[base + k * ((params.n + 1u) / 2u) + j / 2u], j & 1u)";
  const rows = grouped && layout !== "tn" ? "params.rows" : "params.m";
  return U +
    `@compute @workgroup_size(64) fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  var at = linear_workgroup(id, count) * 64u + lane;
  let j = at % params.n; at = at / params.n;
  let i = at % ${rows}; at = at / ${rows};
  if (at >= ${grouped && layout === "tn" ? "params.groups" : "1u"}) { return; }
  var base = 0u; var k0 = 0u; ${layout === "tn" && grouped ? "var k1 = 0u;" : "let k1 = params.k;"}
  var c_at = i * params.n + j;
  ${
      grouped && layout === "tn"
        ? "k0 = offsets[params.first + at]; k1 = offsets[params.first + at + 1u]; c_at += at * params.m * params.n;"
        : grouped
        ? `if (i < offsets[params.first] || i >= offsets[params.first + params.groups]) { return; }
    var g = 0u; while (i >= offsets[params.first + g + 1u]) { g++; } base = g * ${
          layout === "nt" ? "params.n * ((params.k + 1u) / 2u)" : "params.k * ((params.n + 1u) / 2u)"
        };`
        : ""
    }
  var s = 0.0;
  for (var k = k0; k < k1; k++) { s += ${A} * ${B}; }
  ${
      finish === "acc"
        ? "if (params.accumulate == 1u) { s = c[c_at] + s; }"
        : finish === "bias"
        ? "s = s + bias[j];"
        : finish === "add"
        ? "s = residual[c_at] + s;"
        : ""
    }
  c[c_at] = s;
}`;
}
// deno-lint-ignore no-explicit-any
const cost = (v: any) => ({ flops: 2 * (v.m ?? 1) * v.n * (v.k ?? 1) * (v.rows ?? 1), bytes: 0 });
function make(
  name: string,
  layout: "nt" | "nn" | "tn",
  finish: string,
  grouped: boolean,
  extra: Bindings,
  // deno-lint-ignore no-explicit-any
  params: any,
) {
  return defineKernel({
    name,
    bindings: { a: "u32 read", b: "u32 read", ...extra, c: "f32 write" },
    params,
    wgsl: body(layout, finish, grouped),
    // deno-lint-ignore no-explicit-any
    grid: (v: any) => Math.ceil((v.m ?? v.rows) * v.n * (layout === "tn" && grouped ? v.groups : 1) / 64),
    cost,
    // deno-lint-ignore no-explicit-any
    reference(arrays: any, v: any) {
      const { a, b, c, offsets, bias, residual } = arrays;
      const kind: Finish = finish === "bias"
        ? { kind: "bias", words: bias }
        : finish === "add"
        ? { kind: "add", words: residual }
        : { kind: v.accumulate ? "accumulate" : "set" };
      const groups = grouped ? v.groups : 1;
      for (let g = 0; g < groups; g++) {
        const start = grouped ? offsets[v.first + g] : 0;
        const rows = grouped ? offsets[v.first + g + 1] - start : 0;
        if (layout === "tn") {
          const k = grouped ? rows : v.k, wm = Math.ceil(v.m / 2), wn = Math.ceil(v.n / 2);
          const A = unpackRows(a.subarray(start * wm), k, v.m),
            B = unpackRows(b.subarray(start * wn), k, v.n);
          multiply(v.m, v.n, k, transposed(A, 0, v.m), dense(B, 0, v.n), dense(c, g * v.m * v.n, v.n), kind);
        } else {
          const m = grouped ? rows : v.m, wk = Math.ceil(v.k / 2), wn = Math.ceil(v.n / 2);
          const A = unpackRows(a.subarray(start * wk), m, v.k);
          if (layout === "nt") {
            multiply(
              m,
              v.n,
              v.k,
              dense(A, 0, v.k),
              transposed(unpackRows(b.subarray(g * v.n * wk), v.n, v.k), 0, v.k),
              dense(c, start * v.n, v.n),
              kind,
            );
          } else {multiply(
              m,
              v.n,
              v.k,
              dense(A, 0, v.k),
              dense(unpackRows(b.subarray(g * v.k * wn), v.k, v.n), 0, v.n),
              dense(c, start * v.n, v.n),
              kind,
            );}
        }
      }
    },
  });
}
const S = { m: "u32", n: "u32", k: "u32" } as const, SA = { ...S, accumulate: "u32" } as const;
const P = { rows: "u32", n: "u32", k: "u32", first: "u32", groups: "u32" } as const;
const G = { rows: "u32", m: "u32", n: "u32", first: "u32", groups: "u32", accumulate: "u32" } as const;
const off = { offsets: "u32 read" } as const;
/** See the f32 kernel of this name: both factors are packed bf16. */
export const matmulNTPacked = make("matmulNTPacked", "nt", "acc", false, {}, SA);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const matmulNTBiasPacked = make("matmulNTBiasPacked", "nt", "bias", false, { bias: "f32 read" }, S);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const matmulNTAddPacked = make("matmulNTAddPacked", "nt", "add", false, { residual: "f32 read" }, S);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const matmulNNPacked = make("matmulNNPacked", "nn", "acc", false, {}, SA);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const matmulTNPacked = make("matmulTNPacked", "tn", "acc", false, {}, SA);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const groupedNTPacked = make("groupedNTPacked", "nt", "", true, off, P);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const groupedNNPacked = make("groupedNNPacked", "nn", "", true, off, P);
/** See the f32 kernel of this name: both factors are packed bf16. */
export const groupedTNPacked = make("groupedTNPacked", "tn", "acc", true, off, G);
