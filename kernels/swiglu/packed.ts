/**
 * The gated activation and its gradient written as packed bf16 rows: they are factors of the next products and nothing else.
 * Bindings and parameters as in swiglu.ts.
 *
 * @module
 */
import { PACK, packedWidth, packInto } from "../bf16/format.ts";
import { defineKernel, type Variant } from "../kernel.ts";
import { swigluBackwardPackedCost, swigluPackedCost } from "./cost.ts";
import { swiglu, swigluBackward } from "./swiglu.ts";

const params = { rows: "u32", width: "u32", first: "u32", groups: "u32" } as const;

/** Rows that a workgroup of 64 lanes takes, eight lanes each. */
const TILE_ROWS = 8;

const grid = ({ rows }: { readonly rows: number }) => Math.ceil(rows / TILE_ROWS);

/** A program whose lanes go over the words (or vectors of them) of a row of `width`, every eighth, with `body` for number `at`. */
function rowProgram(width: string, body: string): string {
  return `@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = ${width};
  let begin = offsets[params.first];
  let end = min(offsets[params.first + params.groups], begin + params.rows);
  let row = begin + linear_workgroup(id, count) * ${TILE_ROWS}u + lane / 8u;
  if (row >= end) {
    return;
  }
  for (var at = lane % 8u; at < width; at += 8u) {
${body}
  }
}
`;
}

/** Word by word, and where eight divides the width four words at a time: `vectors` and the packed `output` are then vectors. */
function variants(
  words: string,
  eights: string,
  vectors: readonly string[],
  output: string,
): Variant<typeof params>[] {
  const elements = {
    ...Object.fromEntries(vectors.map((name) => [name, "vec4f" as const])),
    [output]: "vec4u" as const,
  };
  return [
    { name: "words", wgsl: PACK + words, grid },
    { name: "eights", wgsl: PACK + eights, grid, elements, fits: ({ width }) => width % 8 === 0 },
  ];
}

/** Rounds and packs those of `rows` [rows, width] that the groups have, into the same rows of `words`. */
function packGroups(
  words: Uint32Array,
  rows: Float32Array,
  width: number,
  offsets: Uint32Array,
  { first, groups }: { readonly first: number; readonly groups: number },
): void {
  const begin = offsets[first], count = offsets[first + groups] - begin;
  packInto(words.subarray(begin * packedWidth(width)), rows.subarray(begin * width), count, width);
}

const FORWARD = `fn gated(gate: vec4f, up: vec4f) -> vec4f {
  return gate / (vec4f(1.0) + exp(-gate)) * up;
}
`;

const FORWARD_WORDS = `fn element(row: u32, column: u32) -> f32 {
  if (column >= params.width) { return 0.0; }
  let start = row * 2u * params.width + column;
  return gated(vec4f(gu[start]), vec4f(gu[start + params.width])).x;
}
${
  rowProgram(
    "(params.width + 1u) / 2u",
    "    y[row * width + at] = one_word(element(row, 2u * at), element(row, 2u * at + 1u));",
  )
}`;

const FORWARD_EIGHTS = rowProgram(
  "params.width / 8u",
  `    let gate = row * 4u * width + 2u * at;
    let up = gate + 2u * width;
    y[row * width + at] = four_words(gated(gu[gate], gu[up]), gated(gu[gate + 1u], gu[up + 1u]));`,
);

/** y u32 [rows, ceil(width / 2)] = bf16 of silu(gate) * up. */
export const swigluPacked = defineKernel({
  name: "swigluPacked",
  bindings: { gu: "f32 read", offsets: "u32 read", y: "u32 write" },
  params,
  variants: variants(FORWARD + FORWARD_WORDS, FORWARD + FORWARD_EIGHTS, ["gu"], "y"),
  cost: swigluPackedCost,
  reference({ gu, offsets, y }, values) {
    const rows = new Float32Array(gu.length / 2);
    swiglu.reference({ gu, offsets, y: rows }, values);
    packGroups(y, rows, values.width, offsets, values);
  },
});

const BACKWARD = `struct Gradients { gate: vec4f, up: vec4f }
fn gradients(gate: vec4f, up: vec4f, d: vec4f) -> Gradients {
  let s = vec4f(1.0) / (vec4f(1.0) + exp(-gate));
  return Gradients(d * up * s * (vec4f(1.0) + gate * (vec4f(1.0) - s)), d * gate * s);
}
`;

const BACKWARD_WORDS = `fn element(row: u32, column: u32) -> f32 {
  let c = column % params.width;
  let start = row * 2u * params.width + c;
  let both = gradients(vec4f(gu[start]), vec4f(gu[start + params.width]), vec4f(dy[row * params.width + c]));
  return select(both.gate.x, both.up.x, column >= params.width);
}
${
  rowProgram(
    "params.width",
    "    dgu[row * width + at] = one_word(element(row, 2u * at), element(row, 2u * at + 1u));",
  )
}`;

const BACKWARD_EIGHTS = rowProgram(
  "params.width / 8u",
  `    let gate = row * 4u * width + 2u * at;
    let up = gate + 2u * width;
    let d = row * 2u * width + 2u * at;
    let low = gradients(gu[gate], gu[up], dy[d]);
    let high = gradients(gu[gate + 1u], gu[up + 1u], dy[d + 1u]);
    dgu[row * 2u * width + at] = four_words(low.gate, high.gate);
    dgu[row * 2u * width + width + at] = four_words(low.up, high.up);`,
);

/** dgu u32 [rows, width] (rows of 2 width elements): bf16 of the gradient of gate and up, from gu and dy [rows, width]. */
export const swigluBackwardPacked = defineKernel({
  name: "swigluBackwardPacked",
  bindings: { gu: "f32 read", dy: "f32 read", offsets: "u32 read", dgu: "u32 write" },
  params,
  variants: variants(BACKWARD + BACKWARD_WORDS, BACKWARD + BACKWARD_EIGHTS, ["gu", "dy"], "dgu"),
  cost: swigluBackwardPackedCost,
  reference({ gu, dy, offsets, dgu }, values) {
    const rows = new Float32Array(gu.length);
    swigluBackward.reference({ gu, dy, offsets, dgu: rows }, values);
    packGroups(dgu, rows, 2 * values.width, offsets, values);
  },
});
