/**
 * The loop over k of a tile's program: how each factor is loaded, and the products in order.
 *
 * A *line* is what lies beside each other in memory: a row of a or b as stored. It has `width` units: words, vectors of four
 * words, or where bf16 is packed, words of two elements or pairs of words of four.
 *
 * @module
 */
import { COMPONENTS, type Tile, TOGETHER, upTo, vectorSums } from "./tile.ts";

/** Functions that packed programs call: the elements of a pair of words, and one of a word's two. */
export const UNPACK: readonly string[] = [
  "fn unpack_four(words: vec2u) -> vec4f {",
  "  return bitcast<vec4f>(vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));",
  "}",
  "fn unpack_one(word: u32, element: u32) -> f32 {",
  "  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (element & 1u) == 1u));",
  "}",
];

/** Loads from a factor whose lines begin at multiples of `width` units. */
export class Factor {
  readonly #name: string;
  readonly #vector: boolean;
  readonly #packed: boolean;

  constructor(name: "a" | "b", vector: boolean, packed: boolean) {
    this.#name = name;
    this.#vector = vector;
    this.#packed = packed;
  }

  /** Units of a line of so many elements. */
  width(elements: string): string {
    if (this.#vector) return `${elements} / 4u`;
    return this.#packed ? `(${elements} + 1u) / 2u` : elements;
  }

  /** In vectors, the vector number `element` / 4 of the line that begins at unit `line`; else one element. */
  load(line: string, element: string): string {
    const name = this.#name;
    if (this.#vector) {
      const vector = `${name}[${line} + ${element}]`;
      return this.#packed ? `unpack_four(${vector})` : vector;
    }
    if (!this.#packed) return `${name}[${line} + ${element}]`;
    return `unpack_one(${name}[${line} + (${element}) / 2u], ${element})`;
  }
}

/** What one factor contributes: declarations before the loop, loads of `steps` steps of k, and how to name an element. */
interface Side {
  readonly before: readonly string[];
  readonly loads: (steps: number) => string[];
  /** Row i of a (a scalar), or column j of b (column or, where sums are vectors, vector of columns), at step q. */
  readonly element: (index: number, q: number) => string;
}

/** Lines of a run along k (nt, nn): each row's own, or eight rows shared out among the lanes. */
function rowsOfA(tile: Tile): Side {
  const a = new Factor("a", tile.vectorA, tile.packed);
  const lines = tile.together ? tile.rows / TOGETHER : tile.rows;
  const row = (i: number) => tile.together ? `row + ${i * TOGETHER}u + lane` : `row + ${i}u`;
  return {
    before: [
      `  let a_width = ${a.width("params.k")};`,
      ...upTo(lines).map((i) => `  let a${i} = min(${row(i)}, row_end - 1u) * a_width;`),
    ],
    loads: () => upTo(lines).map((i) => `    let x${i} = ${a.load(`a${i}`, "k")};`),
    element(i, q) {
      const part = tile.vectorA ? `.${COMPONENTS[q]}` : "";
      if (!tile.together) return `x${i}${part}`;
      return `subgroupBroadcast(x${Math.floor(i / TOGETHER)}${part}, ${i % TOGETHER}u)`;
    },
  };
}

/**
 * What was loaded for a step of tn, or zeros behind the last: adding a product with both factors zero changes no bit of a
 * sum, which is never minus zero because it began with plus zero.
 */
function kept(value: string, vector: boolean, step: string): string {
  return `select(${vector ? "vec4f()" : "0.0"}, ${value}, ${step} < k_end)`;
}

/** Lines of a run along the rows of the result (tn), one line a step. */
function columnsOfA(tile: Tile): Side {
  const { rows, together, vectorA } = tile;
  const a = new Factor("a", vectorA, tile.packed);
  const unit = vectorA ? 4 : 1;
  const base = vectorA ? "row / 4u" : "row";
  const width = `  let a_width = ${a.width("params.m")};`;
  const last = vectorA ? "a_width - 1u" : "params.m - 1u";
  if (!together) {
    return {
      before: [width, ...upTo(rows / unit).map((i) => `  let a${i} = min(${base} + ${i}u, ${last});`)],
      loads: (steps) =>
        upTo(steps).flatMap((q) =>
          upTo(rows / unit).map((i) => {
            const value = a.load(`(k + ${q}u) * a_width`, `a${i}`);
            return `    let x${q}_${i} = ${q === 0 ? value : kept(value, vectorA, `k + ${q}u`)};`;
          })
        ),
      element: (i, q) => vectorA ? `x${q}_${i >> 2}.${COMPONENTS[i & 3]}` : `x${q}_${i}`,
    };
  }
  const parts = partsOfRows(rows / unit);
  return {
    before: [
      width,
      ...parts.map(({ first, lanes, depth }, i) =>
        `  let a${i} = min(${base} + ${first}u + lane % ${lanes}u, ` +
        `${last})${depth > 1 ? ` + lane / ${lanes}u * a_width` : ""};`
      ),
    ],
    loads: (steps) =>
      parts.flatMap(({ lanes, depth }, i) =>
        upTo(steps / depth).map((q) => {
          const value = a.load(`(k + ${q * depth}u) * a_width`, `a${i}`);
          const step = `k + ${q * depth}u${depth > 1 ? ` + lane / ${lanes}u` : ""}`;
          return `    let x${q}_${i} = ${q === 0 && depth === 1 ? value : kept(value, vectorA, step)};`;
        })
      ),
    element(i, q) {
      const index = Math.floor(i / unit), part = Math.min(Math.floor(index / TOGETHER), parts.length - 1);
      const { first, lanes, depth } = parts[part];
      const lane = q % depth * lanes + index - first;
      const component = vectorA ? `.${COMPONENTS[i & 3]}` : "";
      return `subgroupBroadcast(x${Math.floor(q / depth)}_${part}${component}, ${lane}u)`;
    },
  };
}

/**
 * How lanes that work together share out `units` loads of a step: as many as there are lanes at a time. What remains (a
 * power of two) needs fewer; the other lanes then load the steps behind, `depth` of them in one load, which must divide
 * the steps of a turn.
 */
function partsOfRows(units: number): { first: number; lanes: number; depth: number }[] {
  const parts = [];
  for (let first = 0; first < units; first += TOGETHER) {
    const lanes = Math.min(TOGETHER, units - first);
    parts.push({ first, lanes, depth: TOGETHER / lanes });
  }
  return parts;
}

/** Lines of b run along k (nt), one for each column. */
function rowsOfB(tile: Tile): Side {
  const b = new Factor("b", tile.vectorB, tile.packed);
  return {
    before: [
      `  let b_width = ${b.width("params.k")};`,
      ...upTo(tile.columns).map((j) =>
        `  let b${j} = (group * params.n + min(column + ${j}u, params.n - 1u)) * b_width;`
      ),
    ],
    loads: () => upTo(tile.columns).map((j) => `    let y${j} = ${b.load(`b${j}`, "k")};`),
    element: (j, q) => tile.vectorB ? `y${j}.${COMPONENTS[q]}` : `y${j}`,
  };
}

/** Lines of b run along the columns of the result (nn, tn), one line a step. */
function columnsOfB(tile: Tile): Side {
  const b = new Factor("b", tile.vectorB, tile.packed);
  const vectors = vectorSums(tile);
  const columns = vectors ? tile.columns / 4 : tile.columns;
  // A group's matrix has k lines; in tn the rows of all groups are lines of one.
  const line = (q: number) =>
    tile.layout === "tn" ? `(k + ${q}u) * b_width` : `(group * params.k + k_line + ${q}u) * b_width`;
  return {
    before: [
      `  let b_width = ${b.width("params.n")};`,
      ...upTo(columns).map((j) =>
        vectors
          ? `  let b${j} = min(column / 4u + ${j}u, b_width - 1u);`
          : `  let b${j} = min(column + ${j}u, params.n - 1u);`
      ),
    ],
    loads: (steps) =>
      upTo(steps).flatMap((q) =>
        upTo(columns).map((j) => {
          const value = b.load(line(q), `b${j}`);
          const all = tile.layout === "nn" || q === 0;
          return `    let y${q}_${j} = ${all ? value : kept(value, vectors, `k + ${q}u`)};`;
        })
      ),
    element: (j, q) => `y${q}_${j}`,
  };
}

/** The loop. In tn its last turn may have steps behind the last. */
export function loops(tile: Tile): string[] {
  const a = tile.layout === "tn" ? columnsOfA(tile) : rowsOfA(tile);
  const b = tile.layout === "nt" ? rowsOfB(tile) : columnsOfB(tile);
  const columns = vectorSums(tile) ? tile.columns / 4 : tile.columns;
  // Several steps for one sum at a time: it is then loaded and stored once for several products.
  const body = (steps: number) => [
    ...a.loads(steps),
    ...b.loads(steps),
    ...upTo(tile.rows).flatMap((i) => [
      ...upTo(steps).map((q) => `    let t${i}_${q} = ${a.element(i, q)};`),
      ...upTo(columns).flatMap((j) =>
        upTo(steps).map((q) => `    s${i}_${j} += t${i}_${q} * ${b.element(j, q)};`)
      ),
    ]),
  ];
  if (tile.layout === "tn") {
    return [
      ...a.before,
      ...b.before,
      `  for (var k = k_start; k < k_end; k += ${tile.steps}u) {`,
      ...body(tile.steps),
      "  }",
    ];
  }
  const steps = tile.vectorA ? 4 : 1;
  return [
    ...a.before,
    ...b.before,
    `  for (var k = 0u; k < params.k${steps === 4 ? " / 4u" : ""}; k += 1u) {`,
    ...(tile.layout === "nn" ? [`    let k_line = k${steps === 4 ? " * 4u" : ""};`] : []),
    ...body(steps),
    "  }",
  ];
}
