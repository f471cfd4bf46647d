/**
 * Pieces of text that the attention programs are made of: the tile of rows that a lane keeps in registers, and how it is
 * filled, emptied and addressed. The legend is program.ts's.
 *
 * @module
 */

/** What is spelled out in the text of a program. */
export interface Tile {
  readonly headDim: number;
  /** Rows that a lane keeps. */
  readonly rows: number;
  /** Keys between two rescalings of the online softmax (forward only). */
  readonly block: number;
  /**
   * Which lanes are neighbours. "heads": those of other heads and sequences at the same place, so that none waits for a
   * longer one (CPU). "places": those of the next rows of the same head, which read the same keys together (GPU).
   */
  readonly neighbours: "heads" | "places";
}

/** Lanes of a workgroup. */
export const LANES = 32;

/** 0, 1, .. n - 1. */
export const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Joins what `line` gives for 0 .. n. */
export function each(n: number, line: (i: number) => string): string {
  return upTo(n).map(line).join("\n");
}

/** How a program addresses heads: by vectors where four divides the head, else word by word with zeros behind the end. */
export class Heads {
  readonly words: number;
  /** Buffer elements of a head. */
  readonly size: number;

  constructor(readonly headDim: number) {
    this.words = Math.ceil(headDim / 4);
    this.size = headDim % 4 === 0 ? headDim / 4 : headDim;
  }

  /** The vector w of the head that begins at `at`. */
  load(buffer: string, at: string, w: number): string {
    if (this.headDim % 4 === 0) return `${buffer}[${at} + ${w}u]`;
    const element = (i: number) => 4 * w + i < this.headDim ? `${buffer}[${at} + ${4 * w + i}u]` : "0.0";
    return `vec4f(${upTo(4).map(element).join(", ")})`;
  }

  /** Stores a value as vector w of the head that begins at `at`. */
  store(buffer: string, at: string, w: number, value: string): string {
    if (this.headDim % 4 === 0) return `${buffer}[${at} + ${w}u] = ${value};`;
    const count = Math.min(4, this.headDim - 4 * w);
    const stores = upTo(count).map((i) => `${buffer}[${at} + ${4 * w + i}u] = stored.${"xyzw"[i]};`);
    return `{ let stored = ${value}; ${stores.join(" ")} }`;
  }
}

/**
 * Adds the product of two vectors to a sum, element after element: one register a row where partial sums for each of the four
 * elements would need four, more than there are.
 */
export function chain(sum: string, a: string, b: string): string {
  return `${sum} = ${sum} + ${["x", "y", "z", "w"].map((i) => `${a}.${i} * ${b}.${i}`).join(" + ")};`;
}

/** The beginning of every program: which tile and which kv head of which sequence a lane has. */
export function opening(tile: Tile, tiles: string, pairs: string): string {
  const split = tile.neighbours === "heads"
    ? "let tile = index / pairs; let pair = index % pairs;"
    : "let pair = index / tiles; let tile = index % tiles;";
  return `
@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = linear_workgroup(id, count) * ${LANES}u + lane;
  let pairs = ${pairs};
  let share = params.heads / params.kvHeads;
  let tiles = ${tiles};
  if (index >= pairs * tiles) { return; }
  ${split}
  let kv = pair % params.kvHeads;
  let first = tile * ${tile.rows}u;
`;
}

/**
 * Moves every row's value one row down and leaves row `rows` - 1 to be written. A loop that ends or begins with it fills or
 * empties a tile with the loads and stores of one row in its text: spelled out for each row they would take most of the
 * compiler's time.
 */
export function shift(
  rows: number,
  words: number,
  perWord: readonly string[],
  perRow: readonly string[],
): string {
  return each(rows - 1, (r) =>
    [
      ...perRow.map((name) => `${name}${r} = ${name}${r + 1};`),
      ...upTo(words).flatMap((w) => perWord.map((name) => `${name}${r}_${w} = ${name}${r + 1}_${w};`)),
    ].join(" "));
}

/**
 * The value that row `r`, counted from the tile's first, has under a name: a loop over rows that stores what this picks has the
 * stores of one row in its text, as with {@linkcode shift}, and moves nothing.
 */
export function pick(rows: number, name: (r: number) => string): string {
  return upTo(rows - 1).reduce((rest, r) => `select(${rest}, ${name(r + 1)}, r == ${r + 1}u)`, name(0));
}

/** Declares a register for each row, and one for each row and vector. */
export function registers(
  rows: number,
  words: number,
  perWord: readonly string[],
  perRow: readonly string[],
): string {
  return each(rows, (r) =>
    [
      ...perRow.map((name) => `var ${name}${r} = ${name === "t" ? "0u" : "0.0"};`),
      ...upTo(words).flatMap((w) => perWord.map((name) => `var ${name}${r}_${w} = vec4f(0.0);`)),
    ].join(" "));
}
