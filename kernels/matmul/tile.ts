/**
 * What the programs for matrix products have in common: layouts, endings, and where a tile of the result lies.
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

/** Lanes of a subgroup that works on one tile. */
export const TOGETHER = 8;

/** One program. */
export interface Tile {
  readonly layout: Layout;
  readonly epilogue: Epilogue;
  /** Rows and columns of the result that a lane computes; columns a multiple of 4 where a vector is. */
  readonly rows: number;
  readonly columns: number;
  /**
   * The {@linkcode TOGETHER} lanes of a subgroup have the same rows and columns beside each other. Each loads an eighth of
   * what a gives to the rows, and they hand it to each other: a CPU adapter loads for each lane by itself, so that
   * loads, not arithmetic, take most of its time otherwise. Rows are then a multiple of 8.
   */
  readonly together: boolean;
  /** Steps of k in a turn of the loop of tn; the other layouts take as many as a vector of a has elements. */
  readonly steps: number;
  /** Loads of a, of b, and stores of c go by four elements; the variants say what four must divide. */
  readonly vectorA: boolean;
  readonly vectorB: boolean;
  readonly vectorC: boolean;
  /** a and b are bf16, two in a word, every row beginning at a word. */
  readonly packed: boolean;
  /** Rows belong to groups, each with a matrix b (or c) of its own. */
  readonly grouped: boolean;
}

/** Names of a vector's elements. */
export const COMPONENTS: readonly string[] = ["x", "y", "z", "w"];

/** Whether sums are kept as vectors of four columns: then b comes in such vectors too. */
export function vectorSums(tile: Tile): boolean {
  return tile.layout !== "nt" && tile.vectorB;
}

/** Numbers 0 to n-1. */
export function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/**
 * Where tile number `tile` of so many rows and columns lies: `row`, `row_end`, `tile_column`, the range of k, the `group`
 * and where its part of the result begins (`c_base`, in words).
 */
export function place(
  { layout, grouped }: Pick<Tile, "layout" | "grouped">,
  rows: number,
  columns: number,
): string[] {
  const lines = [
    `  let column_tiles = (params.n + ${columns - 1}u) / ${columns}u;`,
    `  let tile_column = (tile % column_tiles) * ${columns}u;`,
  ];
  if (!grouped) {
    return [
      ...lines,
      `  let row = (tile / column_tiles) * ${rows}u;`,
      "  if (row >= params.m) { return; }",
      "  let row_end = params.m;",
      "  let k_start = 0u;",
      "  let k_end = params.k;",
      "  let group = 0u;",
      "  let c_base = 0u;",
    ];
  }
  if (layout === "tn") {
    return [
      ...lines,
      `  let row_tiles = (params.m + ${rows - 1}u) / ${rows}u;`,
      `  let row = (tile / column_tiles % row_tiles) * ${rows}u;`,
      "  let group = tile / column_tiles / row_tiles;",
      "  if (group >= params.groups) { return; }",
      "  let row_end = params.m;",
      "  let k_start = offsets[params.first + group];",
      "  let k_end = offsets[params.first + group + 1u];",
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
    "  let c_base = 0u;",
  ];
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
