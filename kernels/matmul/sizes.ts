/**
 * The tile sizes on offer for matrix products, and the ways in which a tile loads and stores.
 *
 * @module
 */
import type { Shape } from "./family.ts";
import { SHARED_COLUMNS, SHARED_ROWS } from "./shared.ts";
import { type Epilogue, type Layout, TOGETHER } from "./tile.ts";

/** A way to cut the result into tiles. */
export interface Size {
  readonly name: string;
  /** Rows and columns of a tile. */
  readonly rows: number;
  readonly columns: number;
  /** "shared" loads through workgroup memory; lanes "alone" have a tile each, "together" a subgroup has one. */
  readonly kind: "shared" | "alone" | "together";
  /** Lanes of a workgroup that have tiles. */
  readonly lanes: number;
  /** Speed on a CPU adapter when all tiles are full (GFLOPS of a lavapipe core). */
  readonly speed: number;
  /** Products of a call below which the time to compile it (up to half a second) is not worth what it saves. */
  readonly worth: number;
  /** Steps of k in a turn of the loop where factors' lines do not run along k: sums are loaded and stored once for them. */
  readonly steps: number;
}

const STEPS = 4;

function alone(rows: number, columns: number, lanes: number, speed: number, worth = 0): Size {
  return { name: `${rows}x${columns}`, rows, columns, kind: "alone", lanes, speed, worth, steps: STEPS };
}

function together(rows: number, columns: number, speed: number, worth = 0, steps = STEPS): Size {
  const name = `together ${rows}x${columns}`;
  return { name, rows, columns: columns * TOGETHER, kind: "together", lanes: 1, speed, worth, steps };
}

/** The form that shares a square of both factors within a workgroup. */
export const SHARED: Size = {
  name: "shared",
  rows: SHARED_ROWS,
  columns: SHARED_COLUMNS,
  kind: "shared",
  lanes: 1,
  speed: 1,
  worth: 0,
  steps: STEPS,
};

/** For GPUs, whose waves have 32 or 64 lanes and whose lanes have room for small tiles only; and for few rows anywhere. */
export const SMALL: readonly Size[] = [alone(1, 4, 64, 1.9), alone(4, 4, 64, 4.5)];

/** For CPU adapters: loads decide there, so the more sums for each loaded word the better. */
export const LARGE: readonly Size[] = [alone(8, 8, 8, 8)];

/** What the largest tiles are {@linkcode Size.worth} at the least. */
const LARGEST = 2 ** 25;

/** For CPU adapters with subgroups of {@linkcode TOGETHER} lanes. */
export const SUBGROUP: readonly Size[] = [
  together(8, 4, 10.5),
  together(16, 4, 15),
  together(32, 4, 19, 2 ** 20),
  together(32, 8, 21.5, LARGEST),
];

/**
 * The same for one large matrix: where rows belong to groups, more of them hang over each group's last tile than is won.
 * Sums for still more rows make the loop longer than a core's cache of instructions.
 */
export const TALL: Size = together(40, 8, 22.3, 4 * LARGEST);

/**
 * In tn, where a turn may have two steps, the loop stays as short with more rows, which are never those of a group. Packed
 * factors load less, so that two steps do not pay.
 */
export const TALLEST: Size = together(64, 8, 23, LARGEST, 2);

/** All of them, each family from the quickest to compile to the quickest to run. */
export const SIZES: readonly Size[] = [SHARED, ...SMALL, ...LARGE, ...SUBGROUP, TALL, TALLEST];

/** What decides which sizes a family has. */
interface Offered {
  readonly layout: Layout;
  readonly grouped: boolean;
  readonly packed?: boolean;
}

/** Whether a family has a size: packed factors do without those for CPU adapters without subgroups. */
export function offers({ layout, grouped, packed = false }: Offered, size: Size): boolean {
  const tallest = layout === "tn" && !packed;
  if (size === TALLEST) return tallest;
  if (size === TALL) return !tallest && !grouped;
  return !(packed && LARGE.includes(size));
}

/** Rows that tiles of every height on offer for a family divide. */
export function wholeRows(family: Offered): number {
  return offers(family, TALLEST) ? TALLEST.rows : 4 * TALL.rows;
}

/** Which operands go by four elements at a time. */
export interface Vectors {
  readonly a: boolean;
  readonly b: boolean;
  readonly c: boolean;
}

/** The ways of loading and storing that a layout has, the most general first. */
export function vectorForms(layout: Layout): Vectors[] {
  if (layout === "nt") {
    return [
      { a: false, b: false, c: false },
      { a: true, b: true, c: false },
      { a: true, b: true, c: true },
    ];
  }
  return [
    { a: false, b: false, c: false },
    { a: true, b: false, c: false },
    { a: false, b: true, c: true },
    { a: true, b: true, c: true },
  ];
}

/** Whether four divides what these vectors need: k or m for a, k or n for b, n for c. */
export function divides(layout: Layout, { a, b, c }: Vectors, { m, n, k }: Shape): boolean {
  const alongA = layout === "tn" ? m : k;
  const alongB = layout === "nt" ? k : n;
  return (!a || alongA % 4 === 0) && (!b || alongB % 4 === 0) && (!c || n % 4 === 0);
}

function suffix({ a, b, c }: Vectors): string {
  return `${a ? "v" : "s"}${b ? "v" : "s"}${c ? "v" : "s"}`;
}

/** The name of a variant, which settings and reports use. */
export function variantName(size: Size, vectors: Vectors, epilogue: Epilogue): string {
  return size.kind === "shared" ? `shared ${epilogue}` : `${size.name} ${suffix(vectors)} ${epilogue}`;
}

/**
 * Whether a size can load this way. In tn, vectors of a run along the tile's rows. The largest tiles pay only where
 * everything is a vector, and take a second to compile where nothing is.
 */
export function loads(layout: Layout, size: Size, vectors: Vectors): boolean {
  if (size.worth >= LARGEST && !(vectors.a && vectors.b)) return false;
  return layout !== "tn" || !vectors.a || size.rows % 4 === 0;
}
