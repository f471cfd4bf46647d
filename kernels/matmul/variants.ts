/**
 * The tile sizes on offer for each product, and which one suits a shape on a device.
 *
 * @module
 */
import type { DeviceInfo } from "../device.ts";
import type { Params, Values, Variant } from "../kernel.ts";
import { SHARED_COLUMNS, SHARED_ROWS, sharedSource } from "./shared.ts";
import { type Epilogue, type Layout, type Tile, tileSource } from "./tile.ts";

/** Rows x columns of a lane's tile, lanes of a workgroup, and the speed on CPU vectors (GFLOPS of a lavapipe core). */
interface Size {
  readonly rows: number;
  readonly columns: number;
  readonly lanes: number;
  readonly speed: number;
}

/**
 * From the quickest to compile to the quickest to run on a CPU. The small ones also serve GPUs, whose waves have 32 or 64
 * lanes and whose lanes have room for small tiles only.
 */
const SIZES: readonly Size[] = [
  { rows: 1, columns: 4, lanes: 64, speed: 1.9 },
  { rows: 4, columns: 4, lanes: 64, speed: 4.5 },
  { rows: 8, columns: 8, lanes: 8, speed: 8 },
  { rows: 16, columns: 16, lanes: 8, speed: 12.5 },
];

/** Lanes that a CPU adapter computes at once; a workgroup's lanes beyond the last tile cost as much as the others. */
const CPU_LANES = 8;

/** Products below which a call is too short to wait half a second for the largest tile's program. */
const WORTH_COMPILING = 2 ** 21;

/** Which operands go by four words at a time. */
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
  readonly shape: (values: Values<P>) => Shape;
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

function variantName({ rows, columns }: Size, { a, b, c }: Vectors, epilogue: Epilogue): string {
  return `${rows}x${columns} ${a ? "v" : "s"}${b ? "v" : "s"}${c ? "v" : "s"} ${epilogue}`;
}

/** Whether a size can load this way: in tn, vectors of a run along the tile's rows. */
function loads(layout: Layout, size: Size, vectors: Vectors): boolean {
  return layout !== "tn" || !vectors.a || size.rows % 4 === 0;
}

/** The variants of a family that load through workgroup memory. */
function sharedVariants<P extends Params>(family: Family<P>): Variant<P>[] {
  const { layout, epilogues, epilogue: wanted, grouped, shape } = family;
  const size = { rows: SHARED_ROWS, columns: SHARED_COLUMNS, lanes: 1 };
  return epilogues.map((epilogue) => {
    let source: string | undefined;
    return {
      name: sharedName(epilogue),
      get wgsl() {
        return source ??= sharedSource({ layout, epilogue, grouped });
      },
      grid: (values: Values<P>) => workgroups(layout, grouped, size, shape(values)),
      fits: (values: Values<P>) => epilogue === wanted(values),
    };
  });
}

function sharedName(epilogue: Epilogue): string {
  return `shared ${epilogue}`;
}

/** All variants of a family. */
export function variants<P extends Params>(family: Family<P>): Variant<P>[] {
  return [...sharedVariants(family), ...tileVariants(family)];
}

/** The variants of a family whose lanes work alone. */
function tileVariants<P extends Params>(family: Family<P>): Variant<P>[] {
  const { layout, epilogues, epilogue: wanted, grouped, shape } = family;
  return SIZES.flatMap((size) =>
    vectorForms(layout).filter((vectors) => loads(layout, size, vectors)).flatMap((vectors) =>
      epilogues.map((epilogue) => {
        const tile: Tile = {
          layout,
          epilogue,
          grouped,
          rows: size.rows,
          columns: size.columns,
          vectorA: vectors.a,
          vectorB: vectors.b,
          vectorC: vectors.c,
        };
        const elements: Record<string, "vec4f"> = {};
        if (vectors.a) elements.a = "vec4f";
        if (vectors.b) elements.b = "vec4f";
        if (vectors.c) elements.c = "vec4f";
        if (vectors.c && epilogue === "bias") elements.bias = "vec4f";
        if (vectors.c && epilogue === "add") elements.residual = "vec4f";
        let source: string | undefined;
        return {
          name: variantName(size, vectors, epilogue),
          // Written when first asked for: most variants never are.
          get wgsl() {
            return source ??= tileSource(tile, size.lanes);
          },
          elements,
          grid: (values: Values<P>) => workgroups(layout, grouped, size, shape(values)),
          fits: (values: Values<P>) => epilogue === wanted(values) && divides(layout, vectors, shape(values)),
        };
      })
    )
  );
}

function workgroups(
  layout: Layout,
  grouped: boolean,
  size: Omit<Size, "speed">,
  { m, n, groups }: Shape,
): number {
  const columns = Math.ceil(n / size.columns);
  let rows = Math.ceil(m / size.rows);
  // Nothing to compute. With k = 0 the sums are zero and are still stored.
  if (m === 0 || n === 0 || groups === 0) return 0;
  if (grouped) rows = layout === "tn" ? rows * groups : Math.floor(m / size.rows) + groups;
  return Math.ceil(rows * columns / size.lanes);
}

/** The variant for a call, without having measured this adapter: a tuner may know better. */
export function preferredVariant<P extends Params>(
  family: Family<P>,
): (values: Values<P>, device: DeviceInfo) => string {
  const forms = vectorForms(family.layout);
  return (values, device) => {
    const shape = family.shape(values);
    if (!device.software && fillsShared(family, shape)) return sharedName(family.epilogue(values));
    const size = device.software ? sizeForCpu(family, shape) : sizeForGpu(family, shape);
    for (let i = forms.length - 1; i >= 0; i--) {
      if (!loads(family.layout, size, forms[i]) || !divides(family.layout, forms[i], shape)) continue;
      return variantName(size, forms[i], family.epilogue(values));
    }
    throw new Error("The first form of every layout fits every shape");
  };
}

/** Whether at least half of a workgroup's tile is of use; narrower products are better off with lanes that work alone. */
function fillsShared<P extends Params>({ layout, grouped }: Family<P>, { m, n, groups }: Shape): boolean {
  const rows = grouped && layout !== "tn" ? m / groups : m;
  return rows >= SHARED_ROWS / 2 && n >= SHARED_COLUMNS / 2;
}

function sizeForGpu<P extends Params>({ layout, grouped }: Family<P>, { m, groups }: Shape): Size {
  const rows = grouped && layout !== "tn" ? m / groups : m;
  return rows <= 2 ? SIZES[0] : SIZES[1];
}

/** The size that is done soonest: sums computed, those of tiles' overhangs and idle lanes included, over speed. */
function sizeForCpu<P extends Params>({ layout, grouped }: Family<P>, { m, n, k, groups }: Shape): Size {
  let best = SIZES[0];
  let least = Infinity;
  for (const size of SIZES) {
    const { rows, columns, speed } = size;
    if (rows === 16 && m * n * k < WORTH_COMPILING) continue;
    // Half of a group's last tile hangs over, on average.
    const rowTiles = !grouped
      ? Math.ceil(m / rows)
      : layout === "tn"
      ? Math.ceil(m / rows) * groups
      : m / rows + groups / 2;
    const tiles = Math.ceil(rowTiles * Math.ceil(n / columns) / CPU_LANES) * CPU_LANES;
    const time = tiles * rows * columns / speed;
    if (time >= least) continue;
    best = size;
    least = time;
  }
  return best;
}
