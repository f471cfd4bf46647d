/**
 * Bringing tokens to their experts and back: a stable counting sort of assignments by expert, the gather of rows, and the
 * weighted sum of what the experts answered.
 *
 * T tokens, k experts chosen for each, R = T * k assignments, D words of a row, E experts. Assignment a = token * k + rank.
 * Slots are the experts' places in an order that the caller picks (for instance grouped by host): `slotOf` u32 [E] is a
 * permutation. In kernels with `chosen`, `rows` counts tokens (T), also where a buffer has R rows.
 *
 * @module
 */
import { packedWidth } from "../bf16/format.ts";
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel, type Variant } from "../kernel.ts";
import combineProgram from "./combine.wgsl" with { type: "text" };
import combineBackwardProgram from "./combine_backward.wgsl" with { type: "text" };
import {
  combineBackwardCost,
  combineCost,
  dispatchCountCost,
  dispatchPlaceCost,
  gatherRowsCost,
  gatherRowsPackedCost,
  sumRowsCost,
} from "./cost.ts";
import countProgram from "./dispatch_count.wgsl" with { type: "text" };
import placeProgram from "./dispatch_place.wgsl" with { type: "text" };
import gatherProgram from "./gather_rows.wgsl" with { type: "text" };
import sumRowsProgram from "./sum_rows.wgsl" with { type: "text" };

/** Rows and columns (of one or four words) that one workgroup of the row kernels takes. */
const TILE_ROWS = 8;
const TILE_COLUMNS = 128;

/** Most workgroups of the kernels that sort, and fewest and most slots that one of them takes. */
const SORT_GROUPS = 32;
const LEAST_SORT_SLOTS = 8;
const MOST_SORT_SLOTS = 32;

/** Workgroups that share `experts` slots evenly. Throws a RangeError for more than they can take. */
function sortGrid({ experts }: { readonly experts: number }): number {
  if (experts < 1 || experts > SORT_GROUPS * MOST_SORT_SLOTS) {
    throw new RangeError(
      `Cannot sort by ${experts} experts: the number must lie in 1..${SORT_GROUPS * MOST_SORT_SLOTS}`,
    );
  }
  return Math.ceil(experts / Math.max(LEAST_SORT_SLOTS, Math.ceil(experts / SORT_GROUPS)));
}

/** Workgroups for `rows` rows of `columns` columns. */
function tiles(rows: number, columns: number): number {
  return Math.ceil(rows / TILE_ROWS) * Math.ceil(columns / TILE_COLUMNS);
}

type RowParams = { readonly rows: "u32"; readonly width: "u32"; readonly chosen: "u32" };

/** The program for any width, and for widths that four divides; `wide` names the bindings that hold rows. */
function byWidth<P extends RowParams>(
  program: string,
  wide: readonly string[],
  grid: (rows: number, columns: number, chosen: number) => number,
): Variant<P>[] {
  return [{
    name: "words",
    wgsl: SINGLE + program,
    grid: ({ rows, width, chosen }) => grid(rows, width, chosen),
  }, {
    name: "fours",
    wgsl: FOURFOLD + program,
    grid: ({ rows, width, chosen }) => grid(rows, width / 4, chosen),
    elements: Object.fromEntries(wide.map((name) => [name, "vec4f"])),
    fits: ({ width }) => width % 4 === 0,
  }];
}

/** Throws a RangeError where a buffer is too small for the shape, which would otherwise give silent nonsense. */
function checkLength(kernel: string, name: string, array: { readonly length: number }, needed: number): void {
  if (array.length < needed) {
    throw new RangeError(`Cannot run ${kernel}: ${name} has ${array.length} words and needs ${needed}`);
  }
}

/** Counts the assignments of each slot: `experts` u32 [R], `slotOf` u32 [E] -> `counts` u32 [E], by slot. */
export const dispatchCount = defineKernel({
  name: "dispatchCount",
  bindings: { experts: "u32 read", slotOf: "u32 read", counts: "u32 write" },
  params: { assignments: "u32", experts: "u32" },
  wgsl: countProgram,
  grid: sortGrid,
  cost: dispatchCountCost,
  reference({ experts: chosenExperts, slotOf, counts }, { assignments, experts }) {
    checkLength("dispatchCount", "experts", chosenExperts, assignments);
    checkLength("dispatchCount", "counts", counts, experts);
    counts.fill(0, 0, experts);
    for (let a = 0; a < assignments; a++) counts[slotOf[chosenExperts[a]]]++;
  },
});

/**
 * Sorts assignments by slot, in order of assignment inside each: assignment a goes to row `position[a]`, `source[row]` = a,
 * slot s owns rows `offsets[s]`..`offsets[s + 1]` (`offsets` u32 [E + 1]). `counts` comes from {@linkcode dispatchCount}.
 */
export const dispatchPlace = defineKernel({
  name: "dispatchPlace",
  bindings: {
    experts: "u32 read",
    slotOf: "u32 read",
    counts: "u32 read",
    offsets: "u32 write",
    position: "u32 write",
    source: "u32 write",
  },
  params: { assignments: "u32", experts: "u32" },
  wgsl: placeProgram,
  grid: sortGrid,
  cost: dispatchPlaceCost,
  reference(
    { experts: chosenExperts, slotOf, counts, offsets, position, source },
    { assignments, experts },
  ) {
    checkLength("dispatchPlace", "position", position, assignments);
    checkLength("dispatchPlace", "source", source, assignments);
    checkLength("dispatchPlace", "offsets", offsets, experts + 1);
    const next = new Uint32Array(experts);
    let row = 0;
    for (let slot = 0; slot < experts; slot++) {
      offsets[slot] = next[slot] = row;
      row += counts[slot];
    }
    offsets[experts] = row;
    for (let a = 0; a < assignments; a++) {
      const place = next[slotOf[chosenExperts[a]]]++;
      position[a] = place;
      source[place] = a;
    }
  },
});

/** Copies each token's row to its k places: `x` [T, D], `source` u32 [R] -> `y` [R, D], y[r] = x[floor(source[r] / k)]. */
export const gatherRows = defineKernel({
  name: "gatherRows",
  bindings: { x: "f32 read", source: "u32 read", y: "f32 write" },
  params: { rows: "u32", width: "u32", chosen: "u32" },
  variants: byWidth(
    gatherProgram,
    ["x", "y"],
    (rows, columns, chosen) => tiles(rows * chosen, columns),
  ),
  cost: gatherRowsCost,
  reference({ x, source, y }, { rows, width, chosen }) {
    checkLength("gatherRows", "source", source, rows * chosen);
    checkLength("gatherRows", "y", y, rows * chosen * width);
    for (let r = 0; r < rows * chosen; r++) {
      const from = Math.floor(source[r] / chosen) * width;
      y.set(x.subarray(from, from + width), r * width);
    }
  },
});

/** The program of {@linkcode gatherRows} for rows of `span` u32 words an element. */
function gatherWords(element: "u32" | "vec4u", span: 2 | 8): string {
  return `alias Element = ${element};\nconst span = ${span}u;\n${gatherProgram}`;
}

/**
 * {@linkcode gatherRows} of packed bf16 rows, `width` elements each: `x` u32 [T, ceil(D / 2)] -> `y` u32 [R, ceil(D / 2)].
 */
export const gatherRowsPacked = defineKernel({
  name: "gatherRowsPacked",
  bindings: { x: "u32 read", source: "u32 read", y: "u32 write" },
  params: { rows: "u32", width: "u32", chosen: "u32" },
  variants: [
    {
      name: "words",
      wgsl: gatherWords("u32", 2),
      grid: ({ rows, width, chosen }) => tiles(rows * chosen, packedWidth(width)),
    },
    {
      name: "fours",
      wgsl: gatherWords("vec4u", 8),
      grid: ({ rows, width, chosen }) => tiles(rows * chosen, width / 8),
      elements: { x: "vec4u", y: "vec4u" },
      fits: ({ width }) => width % 8 === 0,
    },
  ],
  cost: gatherRowsPackedCost,
  reference({ x, source, y }, { rows, width, chosen }) {
    const words = packedWidth(width);
    checkLength("gatherRowsPacked", "source", source, rows * chosen);
    checkLength("gatherRowsPacked", "y", y, rows * chosen * words);
    for (let r = 0; r < rows * chosen; r++) {
      const start = Math.floor(source[r] / chosen) * words;
      y.set(x.subarray(start, start + words), r * words);
    }
  },
});

/**
 * The layer's output: `residual` [T, D], the experts' `rows` [R, D], `weights` [R] and `position` u32 [R] by assignment
 * -> `y` [T, D] = residual + sum over rank of weight * row, in order of rank.
 */
export const combine = defineKernel({
  name: "combine",
  bindings: {
    residual: "f32 read",
    rows: "f32 read",
    weights: "f32 read",
    position: "u32 read",
    y: "f32 write",
  },
  params: { rows: "u32", width: "u32", chosen: "u32" },
  variants: byWidth(
    combineProgram,
    ["residual", "rows", "y"],
    tiles,
  ),
  cost: combineCost,
  reference({ residual, rows: rows_RD, weights, position, y }, { rows, width, chosen }) {
    checkLength("combine", "rows", rows_RD, rows * chosen * width);
    checkLength("combine", "y", y, rows * width);
    const { fround } = Math;
    for (let t = 0; t < rows; t++) {
      const to = t * width;
      for (let rank = 0; rank < chosen; rank++) {
        const weight = weights[t * chosen + rank];
        const from = position[t * chosen + rank] * width;
        // The sum of ranks is rounded to single precision after each addition, as in the program.
        if (rank === 0) { for (let d = 0; d < width; d++) y[to + d] = weight * rows_RD[from + d]; }
        else for (let d = 0; d < width; d++) y[to + d] += fround(weight * rows_RD[from + d]);
      }
      for (let d = 0; d < width; d++) y[to + d] = residual[to + d] + y[to + d];
    }
  },
});

/**
 * The way back through {@linkcode combine}: `dy` [T, D] -> `drows` [R, D] (drows[position[a]] = weight * dy of its token) and
 * `dweights` [R] by assignment (the product of dy and the expert's row). The residual's gradient is dy itself.
 */
export const combineBackward = defineKernel({
  name: "combineBackward",
  bindings: {
    dy: "f32 read",
    rows: "f32 read",
    weights: "f32 read",
    position: "u32 read",
    drows: "f32 write",
    dweights: "f32 write",
  },
  params: { rows: "u32", width: "u32", chosen: "u32" },
  variants: byWidth(
    combineBackwardProgram,
    ["dy", "rows", "drows"],
    (rows, _columns, chosen) => Math.ceil(rows * chosen / TILE_ROWS),
  ),
  cost: combineBackwardCost,
  reference({ dy, rows: rows_RD, weights, position, drows, dweights }, { rows, width, chosen }) {
    checkLength("combineBackward", "drows", drows, rows * chosen * width);
    checkLength("combineBackward", "dweights", dweights, rows * chosen);
    for (let a = 0; a < rows * chosen; a++) {
      const from = Math.floor(a / chosen) * width;
      const to = position[a] * width;
      const weight = weights[a];
      let sum = 0;
      for (let d = 0; d < width; d++) {
        sum += dy[from + d] * rows_RD[to + d];
        drows[to + d] = weight * dy[from + d];
      }
      dweights[a] = sum;
    }
  },
});

/** The way back through {@linkcode gatherRows}: `drows` [R, D] -> `dx` [T, D], the sum over rank of drows[position], in order. */
export const sumRows = defineKernel({
  name: "sumRows",
  bindings: { drows: "f32 read", position: "u32 read", dx: "f32 write" },
  params: { rows: "u32", width: "u32", chosen: "u32", accumulate: "u32" },
  variants: byWidth(sumRowsProgram, ["drows", "dx"], tiles),
  cost: sumRowsCost,
  reference({ drows, position, dx }, { rows, width, chosen, accumulate }) {
    checkLength("sumRows", "drows", drows, rows * chosen * width);
    checkLength("sumRows", "dx", dx, rows * width);
    const sum_D = new Float32Array(width);
    for (let t = 0; t < rows; t++) {
      sum_D.fill(0);
      for (let rank = 0; rank < chosen; rank++) {
        const from = position[t * chosen + rank] * width;
        for (let d = 0; d < width; d++) sum_D[d] += drows[from + d];
      }
      const to = t * width;
      if (accumulate) { for (let d = 0; d < width; d++) dx[to + d] += sum_D[d]; }
      else dx.set(sum_D, to);
    }
  },
});
