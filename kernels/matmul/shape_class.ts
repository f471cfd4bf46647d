/**
 * Which products are alike: what was measured for one holds for all of its class.
 *
 * @module
 */
import type { Shape } from "./family.ts";

/** Sizes beyond which a longer side changes nothing about which tile is best. */
const LONG = 1024;

/** Products of a timed call: under a millisecond on a core (what else runs there seldom lets more pass), enough to fill a GPU. */
const SAMPLE_CPU = 2 ** 23;
const SAMPLE_GPU = 2 ** 30;

/** From how many rows on what hangs over a last tile does not matter. */
const MANY = 512;

/** Terms that show how fast a loop runs. */
const TERMS = 256;

/** The next power of two, where sides are not long anyway. */
function rounded(side: number): number {
  return Math.min(LONG, 2 ** Math.ceil(Math.log2(Math.max(1, side))));
}

/** The class of a product: "512x512x128", "2048x128x384 in 8". */
export function shapeClass({ m, n, k, groups }: Shape, grouped: boolean): string {
  return `${rounded(m)}x${rounded(n)}x${rounded(k)}${grouped ? ` in ${rounded(groups)}` : ""}`;
}

/**
 * A shape to time instead of a larger one: groups are left out, or sides halved, terms first, until few products are left.
 * What four divides it still divides, and what it does not it still does not. Of many rows whole tiles are left: tiles of
 * every height divide `whole`. A group keeps its rows (`rows` names the side that all groups share).
 */
export function sampleShape(
  shape: Shape,
  rows: "m" | "k" | undefined,
  software: boolean,
  whole: number,
): Shape {
  const most = software ? SAMPLE_CPU : SAMPLE_GPU;
  const sides = { ...shape };
  const halve = (side: "m" | "n" | "k") => {
    sides[side] = Math.max(1, Math.floor(sides[side] / 8)) * 4 + sides[side] % 4;
  };
  while (sides.m * sides.n * sides.k > most) {
    if (rows !== undefined && sides.groups > 1) {
      const ofGroup = sides[rows] / sides.groups;
      sides.groups = Math.ceil(sides.groups / 2);
      sides[rows] = Math.max(1, Math.round(ofGroup * sides.groups));
    } else if (sides.k > TERMS) halve("k");
    else halve(sides.m >= sides.n ? "m" : "n");
  }
  if (rows === undefined && shape.m >= MANY && sides.m < MANY) {
    const m = Math.max(1, Math.round(sides.m / whole)) * whole + sides.m % 4;
    if (m > sides.m) sides.k = Math.max(1, Math.floor(sides.k * sides.m / m / 4)) * 4 + sides.k % 4;
    sides.m = m;
  }
  return sides;
}

/** Where the rows of groups of almost equal size begin and end. */
export function sampleOffsets(rows: number, groups: number): Uint32Array<ArrayBuffer> {
  const offsets = new Uint32Array(groups + 1);
  for (let g = 1; g <= groups; g++) {
    // Unequal, as real groups are: equal ones would all end with full tiles, or none.
    const shift = g === groups ? 0 : (g % 3 - 1) * Math.floor(rows / groups / 8);
    offsets[g] = Math.floor(rows * g / groups) + shift;
  }
  return offsets;
}
