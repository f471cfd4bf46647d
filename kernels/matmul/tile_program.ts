/**
 * Programs for matrix products: each lane computes a tile of the result in registers, written out term by term, since
 * compilers neither unroll such loops nor keep indexed arrays in registers.
 *
 * Every program starts each sum at zero, adds the products in order of k (no `dot`, no split sums) and touches the old
 * result once at the end, so all of them agree bit for bit.
 *
 * @module
 */
import { loops, UNPACK } from "./products.ts";
import { COMPONENTS, finished, place, type Tile, TOGETHER, upTo, vectorSums } from "./tile.ts";

/** The program of a tile, for workgroups of `width` lanes ({@linkcode TOGETHER} of them where they work together). */
export function tileSource(tile: Tile, width: number): string {
  const { rows, columns, together } = tile;
  const lane = together ? "subgroup_invocation_id" : "local_invocation_index";
  const number = "linear_workgroup(workgroup, workgroups)";
  const lines = [
    ...(tile.packed ? UNPACK : []),
    `@compute @workgroup_size(${width})`,
    "fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) workgroups: vec3u,",
    `        @builtin(${lane}) lane: u32) {`,
    `  let tile = ${together ? number : `${number} * ${width}u + lane`};`,
    ...place(tile, rows, together ? columns * TOGETHER : columns),
    `  let column = tile_column${together ? ` + lane * ${columns}u` : ""};`,
    ...sums(tile),
    ...loops(tile),
    ...store(tile),
    "}",
  ];
  return lines.join("\n") + "\n";
}

function sums(tile: Tile): string[] {
  const type = vectorSums(tile) ? "vec4f" : "f32";
  return upTo(tile.rows).flatMap((i) => upTo(sumsOfRow(tile)).map((j) => `  var s${i}_${j} = ${type}();`));
}

/** Sums of a row as variables: by column, or by four columns where sums are vectors. */
function sumsOfRow(tile: Tile): number {
  return vectorSums(tile) ? tile.columns / 4 : tile.columns;
}

/** The sums of the row that is stored, columns 4j to 4j+3, as a vector. */
function vectorSum(tile: Tile, i: number, j: number): string {
  if (vectorSums(tile)) return `v${i}_${j}`;
  return `vec4f(${COMPONENTS.map((_, q) => `v${i}_${4 * j + q}`).join(", ")})`;
}

/** The sum of one element. */
function scalarSum(tile: Tile, i: number, j: number): string {
  return vectorSums(tile) ? `v${i}_${j >> 2}.${COMPONENTS[j & 3]}` : `v${i}_${j}`;
}

/**
 * Stores the sums, four rows at a time, in a loop that picks whose turn it is. Each load and store in a program costs LLVM as
 * much as dozens of products, so writing all rows out would double the time to compile.
 */
function store(tile: Tile): string[] {
  const four = tile.vectorC;
  const count = four ? tile.columns / 4 : tile.columns;
  const unit = four ? " / 4u" : "";
  const stored = Math.min(4, tile.rows), turns = tile.rows / stored;
  const lines = [
    `  let c_width = params.n${unit};`,
    `  let c_column = column${unit};`,
    `  let c_start = c_base${unit} + c_column;`,
    // Where the number of turns is known, compilers write them all out.
    `  for (var first = row; first < min(row_end, row + ${tile.rows}u); first += ${stored}u) {`,
    `    let turn = (first - row) / ${stored}u;`,
  ];
  for (const i of upTo(stored)) {
    for (const j of upTo(sumsOfRow(tile))) {
      const picked = upTo(turns - 1).reduce(
        (rest, turn) => `select(${rest}, s${i + (turn + 1) * stored}_${j}, turn == ${turn + 1}u)`,
        `s${i}_${j}`,
      );
      lines.push(`    let v${i}_${j} = ${picked};`);
    }
  }
  for (const i of upTo(stored)) {
    if (i > 0) lines.push(`    if (first + ${i}u < row_end) {`);
    for (const j of upTo(count)) {
      const index = `c_start + (first + ${i}u) * c_width + ${j}u`;
      const sum = four ? vectorSum(tile, i, j) : scalarSum(tile, i, j);
      const statement = `c[${index}] = ${finished(tile.epilogue, sum, index, `c_column + ${j}u`)};`;
      // A lane of its own has at least one column; of lanes together the last ones may have none.
      const always = j === 0 && !tile.together;
      lines.push(always ? `    ${statement}` : `    if (c_column + ${j}u < c_width) { ${statement} }`);
    }
    if (i > 0) lines.push("    }");
  }
  lines.push("  }");
  return lines;
}
