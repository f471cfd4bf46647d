/**
 * Programs for matrix products: each lane computes a tile of the result in registers, written out term by term, since
 * compilers neither unroll such loops nor keep indexed arrays in registers.
 *
 * Every program starts each sum at zero, adds the products in order of k (no `dot`, no split sums) and touches the old
 * result once at the end, so all of them agree bit for bit.
 *
 * @module
 */

/** nt: a[M,K] b[N,K]; nn: a[M,K] b[K,N]; tn: a[K,M] b[K,N]. */
export type Layout = "nt" | "nn" | "tn";

/**
 * What happens to a sum before it is stored. Setting and accumulating are programs of their own: a branch at every
 * store triples the time that LLVM needs for a large tile.
 */
export type Epilogue = "set" | "accumulate" | "bias" | "add";

/** One program. */
export interface Tile {
  readonly layout: Layout;
  readonly epilogue: Epilogue;
  /** Rows and columns of the result that a lane computes; columns a multiple of 4 where a vector is. */
  readonly rows: number;
  readonly columns: number;
  /** Loads of a, of b, and stores of c go by four words; the variants say what four must divide. */
  readonly vectorA: boolean;
  readonly vectorB: boolean;
  readonly vectorC: boolean;
  /** Rows belong to groups, each with a matrix b (or c) of its own. */
  readonly grouped: boolean;
}

const COMPONENTS = ["x", "y", "z", "w"];

/** Whether sums are kept as vectors of four columns: then b comes in such vectors too. */
function vectorSums(tile: Tile): boolean {
  return tile.layout !== "nt" && tile.vectorB;
}

/** Numbers 0 to n-1. */
function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/** The program of a tile, for workgroups of `width` lanes. */
export function tileSource(tile: Tile, width: number): string {
  const lines = [
    `@compute @workgroup_size(${width})`,
    "fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) workgroups: vec3u,",
    "        @builtin(local_invocation_index) lane: u32) {",
    `  let tile = linear_workgroup(workgroup, workgroups) * ${width}u + lane;`,
    ...place(tile),
    ...sums(tile),
    ...(tile.layout === "nt" ? loopNT(tile) : loopColumns(tile)),
    ...store(tile),
    "}",
  ];
  return lines.join("\n") + "\n";
}

/**
 * Where tile number `tile` lies: `row`, `row_end`, `column`, the range of k, and where the group's matrices begin
 * (`b_base`, `c_base`, in words).
 */
export function place(tile: Pick<Tile, "layout" | "grouped" | "rows" | "columns">): string[] {
  const { rows, columns } = tile;
  const lines = [
    `  let column_tiles = (params.n + ${columns - 1}u) / ${columns}u;`,
    `  let column = (tile % column_tiles) * ${columns}u;`,
  ];
  if (!tile.grouped) {
    return [
      ...lines,
      `  let row = (tile / column_tiles) * ${rows}u;`,
      "  if (row >= params.m) { return; }",
      "  let row_end = params.m;",
      "  let k_start = 0u;",
      "  let k_end = params.k;",
      "  let b_base = 0u;",
      "  let c_base = 0u;",
    ];
  }
  if (tile.layout === "tn") {
    return [
      ...lines,
      `  let row_tiles = (params.m + ${rows - 1}u) / ${rows}u;`,
      `  let row = (tile / column_tiles % row_tiles) * ${rows}u;`,
      "  let group = tile / column_tiles / row_tiles;",
      "  if (group >= params.groups) { return; }",
      "  let row_end = params.m;",
      "  let k_start = offsets[params.first + group];",
      "  let k_end = offsets[params.first + group + 1u];",
      "  let b_base = 0u;",
      "  let c_base = group * params.m * params.n;",
    ];
  }
  return [
    ...lines,
    // Tiles never straddle groups; which group a tile belongs to is found by counting the tiles of those before it.
    "  var row_tile = tile / column_tiles;",
    "  var group = 0u;",
    "  var start = offsets[params.first];",
    "  var row_end = start;",
    "  loop {",
    "    if (group >= params.groups) { return; }",
    "    row_end = offsets[params.first + group + 1u];",
    `    let tiles = (row_end - start + ${rows - 1}u) / ${rows}u;`,
    "    if (row_tile < tiles) { break; }",
    "    row_tile -= tiles;",
    "    start = row_end;",
    "    group += 1u;",
    "  }",
    `  let row = start + row_tile * ${rows}u;`,
    "  let k_start = 0u;",
    "  let k_end = params.k;",
    "  let b_base = group * params.n * params.k;",
    "  let c_base = 0u;",
  ];
}

function sums(tile: Tile): string[] {
  const columns = vectorSums(tile) ? tile.columns / 4 : tile.columns;
  const type = vectorSums(tile) ? "vec4f" : "f32";
  return upTo(tile.rows).flatMap((i) => upTo(columns).map((j) => `  var s${i}_${j} = ${type}();`));
}

/** Rows of a and rows of b, both along k. Loads past the edges repeat the last row; those sums are not stored. */
function loopNT(tile: Tile): string[] {
  const four = tile.vectorA;
  const width = four ? "params.k / 4u" : "params.k";
  const base = four ? "b_base / 4u" : "b_base";
  const terms = four ? COMPONENTS.map((c) => `.${c}`) : [""];
  return [
    `  let width = ${width};`,
    ...upTo(tile.rows).map((i) => `  let a${i} = min(row + ${i}u, row_end - 1u) * width;`),
    ...upTo(tile.columns).map((j) => `  let b${j} = ${base} + min(column + ${j}u, params.n - 1u) * width;`),
    "  for (var k = 0u; k < width; k += 1u) {",
    ...upTo(tile.columns).map((j) => `    let y${j} = b[b${j} + k];`),
    ...upTo(tile.rows).flatMap((i) => [
      `    let x${i} = a[a${i} + k];`,
      ...upTo(tile.columns).flatMap((j) =>
        terms.map((term) => `    s${i}_${j} += x${i}${term} * y${j}${term};`)
      ),
    ]),
    "  }",
  ];
}

/** Rows of b along the columns of the result, and a along k (nn) or along the rows of the result (tn). */
function loopColumns(tile: Tile): string[] {
  const vectors = vectorSums(tile);
  const columns = vectors ? tile.columns / 4 : tile.columns;
  const lines = vectors
    ? [
      "  let b_width = params.n / 4u;",
      "  let b_start = b_base / 4u;",
      ...upTo(columns).map((j) => `  let b${j} = b_start + min(column / 4u + ${j}u, b_width - 1u);`),
    ]
    : [
      "  let b_width = params.n;",
      ...upTo(columns).map((j) => `  let b${j} = b_base + min(column + ${j}u, b_width - 1u);`),
    ];
  const loadB = (k: string, q: number) =>
    upTo(columns).map((j) => `    let y${q}_${j} = b[b${j} + (${k}) * b_width];`);
  const product = (i: number, j: number, x: string, q: number) => `    s${i}_${j} += ${x} * y${q}_${j};`;

  if (tile.layout === "tn") {
    const parts = tile.vectorA ? tile.rows / 4 : tile.rows;
    const step = (steps: number) => [
      ...upTo(steps).flatMap((q) => loadB(`k + ${q}u`, q)),
      ...upTo(parts).flatMap((part) => [
        ...upTo(steps).map((q) => `    let x${q}_${part} = a[a${part} + (k + ${q}u) * a_width];`),
        ...upTo(tile.rows / parts).flatMap((r) =>
          upTo(columns).flatMap((j) =>
            upTo(steps).map((q) =>
              product(
                part * tile.rows / parts + r,
                j,
                `x${q}_${part}${tile.vectorA ? `.${COMPONENTS[r]}` : ""}`,
                q,
              )
            )
          )
        ),
      ]),
    ];
    return [
      ...lines,
      tile.vectorA ? "  let a_width = params.m / 4u;" : "  let a_width = params.m;",
      ...upTo(parts).map((i) =>
        `  let a${i} = min(${tile.vectorA ? "row / 4u" : "row"} + ${i}u, a_width - 1u);`
      ),
      "  var k = k_start;",
      "  for (; k + 3u < k_end; k += 4u) {",
      ...step(4),
      "  }",
      "  for (; k < k_end; k += 1u) {",
      ...step(1),
      "  }",
    ];
  }
  if (!tile.vectorA) {
    return [
      ...lines,
      ...upTo(tile.rows).map((i) => `  let a${i} = min(row + ${i}u, row_end - 1u) * params.k;`),
      "  for (var k = 0u; k < k_end; k += 1u) {",
      ...loadB("k", 0),
      ...upTo(tile.rows).flatMap((i) => [
        `    let x${i} = a[a${i} + k];`,
        ...upTo(columns).map((j) => product(i, j, `x${i}`, 0)),
      ]),
      "  }",
    ];
  }
  return [
    ...lines,
    "  let a_width = params.k / 4u;",
    ...upTo(tile.rows).map((i) => `  let a${i} = min(row + ${i}u, row_end - 1u) * a_width;`),
    "  for (var k = 0u; k < a_width; k += 1u) {",
    // Four steps of k for one sum at a time: it is then loaded and stored once for four products.
    ...upTo(4).flatMap((q) => loadB(`k * 4u + ${q}u`, q)),
    ...upTo(tile.rows).flatMap((i) => [
      `    let x${i} = a[a${i} + k];`,
      ...upTo(columns).flatMap((j) => upTo(4).map((q) => product(i, j, `x${i}.${COMPONENTS[q]}`, q))),
    ]),
    "  }",
  ];
}

/** The sums of row i, columns 4j to 4j+3, as a vector. */
function vectorSum(tile: Tile, i: number, j: number): string {
  if (vectorSums(tile)) return `s${i}_${j}`;
  return `vec4f(${COMPONENTS.map((_, q) => `s${i}_${4 * j + q}`).join(", ")})`;
}

/** The sum of one element. */
function scalarSum(tile: Tile, i: number, j: number): string {
  return vectorSums(tile) ? `s${i}_${j >> 2}.${COMPONENTS[j & 3]}` : `s${i}_${j}`;
}

/** What is stored for a sum. */
export function finished(epilogue: Epilogue, sum: string, index: string, column: string): string {
  switch (epilogue) {
    case "set":
      return sum;
    case "accumulate":
      return `c[${index}] + ${sum}`;
    case "bias":
      return `${sum} + bias[${column}]`;
    case "add":
      return `residual[${index}] + ${sum}`;
  }
}

/**
 * Stores the sums, four rows at a time: a loop stores the first four and moves the others up. Each load and store in a
 * program costs LLVM as much as dozens of products, so writing all rows out would double the time to compile.
 */
function store(tile: Tile): string[] {
  const four = tile.vectorC;
  const count = four ? tile.columns / 4 : tile.columns;
  const unit = four ? " / 4u" : "";
  const stored = Math.min(4, tile.rows);
  const lines = [
    `  let c_width = params.n${unit};`,
    `  let c_column = column${unit};`,
    `  let c_start = c_base${unit} + c_column;`,
    `  for (var first = row; first < min(row_end, row + ${tile.rows}u); first += ${stored}u) {`,
  ];
  for (const i of upTo(stored)) {
    if (i > 0) lines.push(`    if (first + ${i}u < row_end) {`);
    for (const j of upTo(count)) {
      const index = `c_start + (first + ${i}u) * c_width + ${j}u`;
      const sum = four ? vectorSum(tile, i, j) : scalarSum(tile, i, j);
      const statement = `c[${index}] = ${finished(tile.epilogue, sum, index, `c_column + ${j}u`)};`;
      lines.push(j === 0 ? `    ${statement}` : `    if (c_column + ${j}u < c_width) { ${statement} }`);
    }
    if (i > 0) lines.push("    }");
  }
  const sumsOfRow = vectorSums(tile) ? tile.columns / 4 : tile.columns;
  for (const i of upTo(tile.rows - stored)) {
    for (const j of upTo(sumsOfRow)) lines.push(`    s${i}_${j} = s${i + stored}_${j};`);
  }
  lines.push("  }");
  return lines;
}
