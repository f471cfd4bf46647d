/**
 * Programs for matrix products on GPUs: a workgroup computes a square of the result, loading factors into workgroup memory
 * in a pattern that GPUs like, and every lane sums four by four of its elements in order of k.
 *
 * @module
 */
import { Factor, UNPACK } from "./products.ts";
import { type Epilogue, finished, type Layout, place } from "./tile.ts";

/** Rows and columns of a workgroup's square. */
export const SHARED_ROWS = 64;
export const SHARED_COLUMNS = 64;

/** Steps of k in workgroup memory at a time. */
const DEPTH = 16;

/** Lanes of a workgroup, sixteen by sixteen; each sums four by four elements. */
const LANES = 256;

/** Words from one step of k to the next in workgroup memory: one more than needed, so that banks do not collide. */
const STRIDE = 65;

/** One program. */
export interface Shared {
  readonly layout: Layout;
  readonly epilogue: Epilogue;
  readonly grouped: boolean;
  readonly packed: boolean;
}

/**
 * Loads what one factor gives to the square: element (line, step) where lines are rows of a or columns of b. Neighbouring
 * lanes take neighbouring words. Beyond the edges come zeros; adding their products changes no bit of a sum, which is never
 * minus zero because it began with plus zero.
 */
function load(
  name: "a" | "b",
  packed: boolean,
  alongK: boolean,
  line: string,
  lineEnd: string,
  width: string,
  base: string,
): string[] {
  const factor = new Factor(name, false, packed);
  const lines: string[] = [];
  for (let part = 0; part < SHARED_ROWS * DEPTH / LANES; part++) {
    const element = `lane + ${part * LANES}u`;
    const [at, step] = alongK
      ? [`(${element}) / ${DEPTH}u`, `(${element}) % ${DEPTH}u`]
      : [`(${element}) % ${SHARED_ROWS}u`, `(${element}) / ${SHARED_ROWS}u`];
    const word = alongK
      ? factor.load(`(${base}${line} + at) * (${factor.width(width)})`, "k + step")
      : factor.load(`(${base}k + step) * (${factor.width(width)})`, `${line} + at`);
    lines.push(
      "    {",
      `      let at = ${at};`,
      `      let step = ${step};`,
      "      var word = 0.0;",
      `      if (${line} + at < ${lineEnd} && k + step < k_end) { word = ${word}; }`,
      `      shared_${name}[step * ${STRIDE}u + at] = word;`,
      "    }",
    );
  }
  return lines;
}

/** The program, for the kernel's own scalar elements. */
export function sharedSource({ layout, epilogue, grouped, packed }: Shared): string {
  const four = [0, 1, 2, 3];
  const lines = [
    ...(packed ? UNPACK : []),
    `var<workgroup> shared_a: array<f32, ${DEPTH * STRIDE}>;`,
    `var<workgroup> shared_b: array<f32, ${DEPTH * STRIDE}>;`,
    `@compute @workgroup_size(${LANES})`,
    "fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) workgroups: vec3u,",
    "        @builtin(local_invocation_index) lane: u32) {",
    "  let tile = linear_workgroup(workgroup, workgroups);",
    ...place({ layout, grouped }, SHARED_ROWS, SHARED_COLUMNS),
    "  let column = tile_column;",
    "  let lane_row = lane / 16u * 4u;",
    "  let lane_column = lane % 16u;",
    ...four.flatMap((i) => four.map((j) => `  var s${i}_${j} = 0.0;`)),
    `  for (var k = k_start; k < k_end; k += ${DEPTH}u) {`,
    ...load("a", packed, layout !== "tn", "row", "row_end", layout === "tn" ? "params.m" : "params.k", ""),
    ...load(
      "b",
      packed,
      layout === "nt",
      "column",
      "params.n",
      layout === "nt" ? "params.k" : "params.n",
      // A group's matrix has n lines in nt and k lines in nn; in tn the rows of all groups are lines of one.
      layout === "nt" ? "group * params.n + " : layout === "nn" ? "group * params.k + " : "",
    ),
    "    workgroupBarrier();",
    `    for (var step = 0u; step < ${DEPTH}u; step += 1u) {`,
    ...four.map((i) => `      let x${i} = shared_a[step * ${STRIDE}u + lane_row + ${i}u];`),
    ...four.map((j) => `      let y${j} = shared_b[step * ${STRIDE}u + lane_column + ${j * 16}u];`),
    ...four.flatMap((i) => four.map((j) => `      s${i}_${j} += x${i} * y${j};`)),
    "    }",
    "    workgroupBarrier();",
    "  }",
    ...four.flatMap((i) => [
      `  if (row + lane_row + ${i}u < row_end) {`,
      ...four.flatMap((j) => {
        const at = `column + lane_column + ${j * 16}u`;
        return [
          `    if (${at} < params.n) {`,
          `      let index = c_base + (row + lane_row + ${i}u) * params.n + ${at};`,
          `      c[index] = ${finished(epilogue, `s${i}_${j}`, "index", at)};`,
          "    }",
        ];
      }),
      "  }",
    ]),
    "}",
  ];
  return lines.join("\n") + "\n";
}
