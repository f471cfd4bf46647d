/**
 * Which size suits a product: by estimate on a device that has not been measured, and which ones are worth measuring.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import type { Params, Sample, Tuning, Values } from "../kernel.ts";
import type { Family, Shape } from "./family.ts";
import { sampleOffsets, sampleShape, shapeClass } from "./shape_class.ts";
import { SHARED_COLUMNS, SHARED_ROWS } from "./shared.ts";
import {
  divides,
  LARGE,
  loads,
  offers,
  SHARED,
  type Size,
  SIZES,
  SMALL,
  SUBGROUP,
  TALL,
  TALLEST,
  variantName,
  vectorForms,
  wholeRows,
} from "./sizes.ts";
import { TOGETHER } from "./tile.ts";

/** Lanes that a CPU adapter computes at once; a workgroup's lanes beyond the last tile cost as much as the others. */
const CPU_LANES = 8;

/** The variant of a size for a call: by as many vectors as four divides. Nothing where the size has none that fits. */
function variantOf<P extends Params>(family: Family<P>, size: Size, values: Values<P>): string | undefined {
  const forms = vectorForms(family.layout);
  for (let i = forms.length - 1; i >= 0; i--) {
    if (!loads(family.layout, size, forms[i]) || !divides(family.layout, forms[i], family.shape(values))) {
      continue;
    }
    return variantName(size, forms[i], family.epilogue(values));
  }
  return undefined;
}

/** The variant for a call, without having measured this adapter: a tuner may know better. */
export function preferredVariant<P extends Params>(
  family: Family<P>,
): (values: Values<P>, device: DeviceInfo) => string {
  return (values, device) => {
    const shape = family.shape(values);
    const size = device.software ? sizeForCpu(family, values, device) : sizeForGpu(family, shape);
    return variantOf(family, size, values)!;
  };
}

/** Rows that lie together, on average: tiles do not straddle groups. */
function rowsOfGroup<P extends Params>({ layout, grouped }: Family<P>, { m, groups }: Shape): number {
  return grouped && layout !== "tn" ? m / groups : m;
}

/** Narrow products, that leave more than half of a workgroup's tile idle, are better off with lanes that work alone. */
function sizeForGpu<P extends Params>(family: Family<P>, shape: Shape): Size {
  const rows = rowsOfGroup(family, shape);
  if (rows >= SHARED_ROWS / 2 && shape.n >= SHARED_COLUMNS / 2) return SHARED;
  return rows <= 2 ? SMALL[0] : SMALL[1];
}

/** Sizes that a CPU adapter may take. */
function sizesForCpu<P extends Params>(family: Family<P>, { subgroup }: DeviceInfo): readonly Size[] {
  const sizes = subgroup === TOGETHER ? [...SMALL, ...SUBGROUP, TALL, TALLEST] : [...SMALL, ...LARGE];
  return sizes.filter((size) => offers(family, size));
}

/** Seconds, but for a factor: sums computed, those of tiles' overhangs and idle lanes included, over speed. */
function estimate<P extends Params>({ layout, grouped }: Family<P>, size: Size, shape: Shape): number {
  const { m, n, groups } = shape;
  const { rows, columns, speed } = size;
  // Half of a group's last tile hangs over, on average.
  const rowTiles = !grouped
    ? Math.ceil(m / rows)
    : layout === "tn"
    ? Math.ceil(m / rows) * groups
    : m / rows + groups / 2;
  const tiles = rowTiles * Math.ceil(n / columns);
  const run = size.kind === "alone" ? Math.ceil(tiles / CPU_LANES) * CPU_LANES : tiles;
  return run * rows * columns / speed;
}

/** The size that is done soonest by estimate. */
function sizeForCpu<P extends Params>(family: Family<P>, values: Values<P>, device: DeviceInfo): Size {
  const shape = family.shape(values);
  let best = SMALL[0];
  let least = Infinity;
  for (const size of sizesForCpu(family, device)) {
    if (shape.m * shape.n * shape.k < size.worth || variantOf(family, size, values) === undefined) continue;
    const time = estimate(family, size, shape);
    if (time >= least) continue;
    best = size;
    least = time;
  }
  return best;
}

/**
 * Calls so many times smaller than what makes a size worth compiling are not measured with it either: what is known of a class
 * serves many runs, but the first one waits.
 */
const TRIED = 8;

/** Sizes whose estimate is so many times that of the best are not worth measuring. */
const HOPELESS = 1.6;

/** How to find out which size is best for a class of calls. */
export function tuning<P extends Params>(family: Family<P>): Tuning<P> {
  const { layout, grouped, packed, shape } = family;
  return {
    shapeClass(values) {
      const vectors = variantOf(family, SMALL[1], values)!.split(" ")[1];
      return `${layout}${packed ? " bf16" : ""} ${shapeClass(shape(values), grouped)} ${vectors}`;
    },
    sizes(values, device) {
      const { m, n, k } = shape(values);
      const offered = (device.software ? sizesForCpu(family, device) : [...SMALL, SHARED])
        .filter((size) => m * n * k * TRIED >= size.worth && variantOf(family, size, values) !== undefined);
      const times = offered.map((size) => estimate(family, size, shape(values)));
      const least = Math.min(...times);
      return offered.filter((_, i) => !device.software || times[i] <= HOPELESS * least)
        .map(({ name }) => name);
    },
    variant(name, values) {
      const size = SIZES.find((size) => size.name === name && offers(family, size));
      return size === undefined ? undefined : variantOf(family, size, values);
    },
    sample(values, device) {
      const rows = !grouped ? undefined : layout === "tn" ? "k" : "m";
      return sampleOf(family, values, sampleShape(shape(values), rows, device.software, wholeRows(family)));
    },
  };
}

/** A call of a shape: its parameters and what its bindings hold. */
function sampleOf<P extends Params>(family: Family<P>, values: Values<P>, shape: Shape): Sample<P> {
  const { layout, grouped, packed = false, withShape } = family;
  const { m, n, k, groups } = shape;
  const factor = (lines: number, width: number) => lines * (packed ? Math.ceil(width / 2) : width);
  const result = m * n * (layout === "tn" ? groups : 1);
  return {
    values: withShape(values, shape),
    words: {
      a: layout === "tn" ? factor(k, m) : factor(m, k),
      b: layout === "nt" ? factor(groups * n, k) : factor(layout === "nn" ? groups * k : k, n),
      c: result,
      ...(family.epilogues.includes("bias") ? { bias: n } : {}),
      ...(family.epilogues.includes("add") ? { residual: result } : {}),
      ...(grouped ? { offsets: sampleOffsets(layout === "tn" ? k : m, groups) } : {}),
    },
  };
}
