/**
 * The tile sizes on offer for each product, and which one suits a shape on a device that has not been measured.
 *
 * @module
 */
import type { DeviceInfo } from "../device.ts";
import type { Params, Sample, Tuning, Values, Variant } from "../kernel.ts";
import { sampleOffsets, sampleShape, shapeClass } from "./shape_class.ts";
import { SHARED_COLUMNS, SHARED_ROWS, sharedSource } from "./shared.ts";
import { type Epilogue, type Layout, type Tile, TOGETHER } from "./tile.ts";
import { tileSource } from "./tile_program.ts";

/** A way to cut the result into tiles. */
interface Size {
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
}

function alone(rows: number, columns: number, lanes: number, speed: number, worth = 0): Size {
  return { name: `${rows}x${columns}`, rows, columns, kind: "alone", lanes, speed, worth };
}

function together(rows: number, columns: number, speed: number, worth = 0): Size {
  const name = `together ${rows}x${columns}`;
  return { name, rows, columns: columns * TOGETHER, kind: "together", lanes: 1, speed, worth };
}

const SHARED: Size = {
  name: "shared",
  rows: SHARED_ROWS,
  columns: SHARED_COLUMNS,
  kind: "shared",
  lanes: 1,
  speed: 1,
  worth: 0,
};

/** For GPUs, whose waves have 32 or 64 lanes and whose lanes have room for small tiles only; and for few rows anywhere. */
const SMALL: readonly Size[] = [alone(1, 4, 64, 1.9), alone(4, 4, 64, 4.5)];

/** For CPU adapters: loads decide there, so the more sums for each loaded word the better. */
const LARGE: readonly Size[] = [alone(8, 8, 8, 8)];

/** For CPU adapters with subgroups of {@linkcode TOGETHER} lanes. */
const SUBGROUP: readonly Size[] = [
  together(8, 4, 10.5),
  together(16, 4, 15),
  together(32, 4, 19),
  together(32, 8, 21.5, 2 ** 26),
];

/** All of them, each family from the quickest to compile to the quickest to run. */
const SIZES: readonly Size[] = [SHARED, ...SMALL, ...LARGE, ...SUBGROUP];

/** Lanes that a CPU adapter computes at once; a workgroup's lanes beyond the last tile cost as much as the others. */
const CPU_LANES = 8;

/** Which operands go by four elements at a time. */
interface Vectors {
  readonly a: boolean;
  readonly b: boolean;
  readonly c: boolean;
}

/** The sizes that decide, whatever a kernel calls them: the sums that a call takes, and what a tile must divide. */
export interface Shape {
  /** Rows and columns of the result (rows of all groups together), and terms of each sum. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Matrices in the call; 1 where there are no groups. */
  readonly groups: number;
}

/** What makes the variants of one kernel. */
export interface Family<P extends Params> {
  readonly layout: Layout;
  /** One program for each: setting and accumulating, where the call says which, or the only one. */
  readonly epilogues: readonly Epilogue[];
  /** Which of them a call wants. */
  readonly epilogue: (values: Values<P>) => Epilogue;
  readonly grouped: boolean;
  /** Whether a and b are packed bf16. */
  readonly packed?: boolean;
  readonly shape: (values: Values<P>) => Shape;
  /** The call's parameters for another shape; the first group is then 0. */
  readonly withShape: (values: Values<P>, shape: Shape) => Values<P>;
}

/** For kernels whose parameter `accumulate` says whether sums overwrite (0) or add. */
export const setOrAccumulate = {
  epilogues: ["set", "accumulate"] as const,
  epilogue: ({ accumulate }: { readonly accumulate: number }): Epilogue =>
    accumulate === 0 ? "set" : "accumulate",
};

/** For kernels that end in one way only. */
export function always(epilogue: Epilogue): { epilogues: readonly Epilogue[]; epilogue: () => Epilogue } {
  return { epilogues: [epilogue], epilogue: () => epilogue };
}

/** What {@linkcode defineKernel} wants to know of a family's variants. */
export function formsOf<P extends Params>(family: Family<P>): {
  variants: Variant<P>[];
  prefer: (values: Values<P>, device: DeviceInfo) => string;
  tuning: Tuning<P>;
} {
  return { variants: variants(family), prefer: preferredVariant(family), tuning: tuning(family) };
}

/** The ways of loading and storing that a layout has, the most general first. */
function vectorForms(layout: Layout): Vectors[] {
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
function divides(layout: Layout, { a, b, c }: Vectors, { m, n, k }: Shape): boolean {
  const alongA = layout === "tn" ? m : k;
  const alongB = layout === "nt" ? k : n;
  return (!a || alongA % 4 === 0) && (!b || alongB % 4 === 0) && (!c || n % 4 === 0);
}

function suffix({ a, b, c }: Vectors): string {
  return `${a ? "v" : "s"}${b ? "v" : "s"}${c ? "v" : "s"}`;
}

function variantName(size: Size, vectors: Vectors, epilogue: Epilogue): string {
  return size.kind === "shared" ? `shared ${epilogue}` : `${size.name} ${suffix(vectors)} ${epilogue}`;
}

/**
 * Whether a size can load this way. In tn, vectors of a run along the tile's rows. The largest tile pays only where
 * everything is a vector, and takes a second to compile where nothing is.
 */
function loads(layout: Layout, size: Size, vectors: Vectors): boolean {
  if (size.worth > 0 && !(vectors.a && vectors.b)) return false;
  return layout !== "tn" || !vectors.a || size.rows % 4 === 0;
}

/** All variants of a family. Packed factors do without the sizes for CPU adapters that have no subgroups. */
export function variants<P extends Params>(family: Family<P>): Variant<P>[] {
  const sizes = family.packed ? SIZES.filter((size) => !LARGE.includes(size)) : SIZES;
  return sizes.flatMap((size) =>
    size.kind === "shared" ? sharedVariants(family) : tileVariants(family, size)
  );
}

/** The variants of a family that load through workgroup memory. */
function sharedVariants<P extends Params>(family: Family<P>): Variant<P>[] {
  const { layout, epilogues, epilogue: wanted, grouped, packed = false, shape } = family;
  return epilogues.map((epilogue) => {
    let source: string | undefined;
    return {
      name: `shared ${epilogue}`,
      get wgsl() {
        return source ??= sharedSource({ layout, epilogue, grouped, packed });
      },
      grid: (values: Values<P>) => workgroups(family, SHARED, shape(values)),
      fits: (values: Values<P>) => epilogue === wanted(values),
    };
  });
}

/** The variants of a size whose sums lie in registers. */
function tileVariants<P extends Params>(family: Family<P>, size: Size): Variant<P>[] {
  const { layout, epilogues, epilogue: wanted, grouped, packed = false, shape } = family;
  const isTogether = size.kind === "together";
  const vector = packed ? "vec2u" : "vec4f";
  return vectorForms(layout).filter((vectors) => loads(layout, size, vectors)).flatMap((vectors) =>
    epilogues.map((epilogue) => {
      const tile: Tile = {
        layout,
        epilogue,
        grouped,
        packed,
        together: isTogether,
        rows: size.rows,
        columns: isTogether ? size.columns / TOGETHER : size.columns,
        vectorA: vectors.a,
        vectorB: vectors.b,
        vectorC: vectors.c,
      };
      const elements: Record<string, "vec4f" | "vec2u"> = {};
      if (vectors.a) elements.a = vector;
      if (vectors.b) elements.b = vector;
      if (vectors.c) elements.c = "vec4f";
      if (vectors.c && epilogue === "bias") elements.bias = "vec4f";
      if (vectors.c && epilogue === "add") elements.residual = "vec4f";
      let source: string | undefined;
      return {
        name: variantName(size, vectors, epilogue),
        // Written when first asked for: most variants never are.
        get wgsl() {
          return source ??= tileSource(tile, isTogether ? TOGETHER : size.lanes);
        },
        elements,
        ...(isTogether ? { subgroup: TOGETHER } : {}),
        grid: (values: Values<P>) => workgroups(family, size, shape(values)),
        fits: (values: Values<P>) => epilogue === wanted(values) && divides(layout, vectors, shape(values)),
      };
    })
  );
}

function workgroups<P extends Params>(
  { layout, grouped }: Family<P>,
  size: Size,
  { m, n, groups }: Shape,
): number {
  const columns = Math.ceil(n / size.columns);
  let rows = Math.ceil(m / size.rows);
  // Nothing to compute. With k = 0 the sums are zero and are still stored.
  if (m === 0 || n === 0 || groups === 0) return 0;
  if (grouped) rows = layout === "tn" ? rows * groups : Math.floor(m / size.rows) + groups;
  return Math.ceil(rows * columns / size.lanes);
}

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
function sizesForCpu<P extends Params>({ packed }: Family<P>, { subgroup }: DeviceInfo): readonly Size[] {
  if (subgroup === TOGETHER) return [...SMALL, ...SUBGROUP];
  return packed ? SMALL : [...SMALL, ...LARGE];
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

/** Sizes whose estimate is so many times that of the best are not worth measuring. */
const HOPELESS = 1.6;

function tuning<P extends Params>(family: Family<P>): Tuning<P> {
  const { layout, grouped, packed, shape } = family;
  return {
    shapeClass(values) {
      const vectors = variantOf(family, SMALL[1], values)!.split(" ")[1];
      return `${layout}${packed ? " bf16" : ""} ${shapeClass(shape(values), grouped)} ${vectors}`;
    },
    sizes(values, device) {
      const offered = (device.software ? sizesForCpu(family, device) : [...SMALL, SHARED])
        .filter((size) => variantOf(family, size, values) !== undefined);
      const times = offered.map((size) => estimate(family, size, shape(values)));
      const least = Math.min(...times);
      return offered.filter((_, i) => !device.software || times[i] <= HOPELESS * least)
        .map(({ name }) => name);
    },
    variant(name, values) {
      const size = SIZES.find((size) => size.name === name);
      return size === undefined ? undefined : variantOf(family, size, values);
    },
    sample(values, device) {
      const rows = !grouped ? undefined : layout === "tn" ? "k" : "m";
      return sampleOf(family, values, sampleShape(shape(values), rows, device.software));
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
