/**
 * From f32 to packed bf16 rows: operands of the packed matrix products.
 *
 * @module
 */
import { defineKernel } from "../kernel.ts";
import { packRowsCost } from "./cost.ts";
import { PACK, packedWidth, packInto } from "./format.ts";

export { packedWidth, packInto, roundToBf16, unpackRows } from "./format.ts";

/** Lanes of a workgroup, and vectors of eight elements that one of them packs. */
const LANES = 64, PER_LANE = 2;

const WORDS = `@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = (params.width + 1u) / 2u;
  let at = linear_workgroup(id, count) * 64u + lane;
  if (at >= params.rows * width) {
    return;
  }
  let column = at % width * 2u;
  let source = at / width * params.width + column;
  var high = 0.0;
  if (column + 1u < params.width) {
    high = x[source + 1u];
  }
  y[at] = one_word(x[source], high);
}
`;

const EIGHTS = `@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let end = params.rows * (params.width / 8u);
  let first = linear_workgroup(id, count) * ${64 * PER_LANE}u + lane;
  if (first >= end) {
    return;
  }
  // Written out, since loops cost more than loads where a CPU plays the GPU; beyond the end the last one again.
${
  Array.from({ length: PER_LANE }, (_, i) => {
    const at = `at${i}`;
    return `  let ${at} = min(first + ${64 * i}u, end - 1u);
  y[${at}] = four_words(x[2u * ${at}], x[2u * ${at} + 1u]);`;
  }).join("\n")
}
}
`;

/** x f32 [rows, width] rounded to bf16 and packed: y u32 [rows, ceil(width / 2)]. */
export const packRows = defineKernel({
  name: "packRows",
  bindings: { x: "f32 read", y: "u32 write" },
  params: { rows: "u32", width: "u32" },
  variants: [
    {
      name: "words",
      wgsl: PACK + WORDS,
      grid: ({ rows, width }) => Math.ceil(rows * packedWidth(width) / LANES),
    },
    {
      name: "eights",
      wgsl: PACK + EIGHTS,
      grid: ({ rows, width }) => Math.ceil(rows * width / (8 * PER_LANE * LANES)),
      elements: { x: "vec4f", y: "vec4u" },
      fits: ({ width }) => width % 8 === 0,
    },
  ],
  cost: packRowsCost,
  reference({ x, y }, { rows, width }) {
    packInto(y, x, rows, width);
  },
});
