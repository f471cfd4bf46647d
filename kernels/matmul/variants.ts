/**
 * The tile sizes on offer for each product, and which one suits a shape on a device.
 *
 * @module
 */
import type { DeviceInfo } from "../device.ts";
import type { Params, Values, Variant } from "../kernel.ts";
import { type Epilogue, type Layout, type Tile, tileSource } from "./tile.ts";

/** Rows x columns of a lane's tile, and lanes of a workgroup. */
interface Size {
  readonly rows: number;
  readonly columns: number;
  readonly lanes: number;
}

/** From the quickest to compile to the quickest to run on CPU vectors; all have columns that four divides. */
const SIZES: readonly Size[] = [
  { rows: 1, columns: 4, lanes: 64 },
  { rows: 4, columns: 4, lanes: 64 },
  { rows: 8, columns: 8, lanes: 8 },
  { rows: 16, columns: 16, lanes: 8 },
];

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

/** All variants of a family. */
export function tileVariants<P extends Params>(family: Family<P>): Variant<P>[] {
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

function workgroups(layout: Layout, grouped: boolean, size: Size, { m, n, groups }: Shape): number {
  const columns = Math.ceil(n / size.columns);
  let rows = Math.ceil(m / size.rows);
  // Nothing to compute. With k = 0 the sums are zero and are still stored.
  if (m === 0 || n === 0 || groups === 0) return 0;
  if (grouped) rows = layout === "tn" ? rows * groups : Math.floor(m / size.rows) + groups;
  return Math.ceil(rows * columns / size.lanes);
}

/** The variant for a call: measured on lavapipe for CPU adapters, modest tiles that leave registers for GPUs. */
export function preferredVariant<P extends Params>(
  family: Family<P>,
): (values: Values<P>, device: DeviceInfo) => string {
  const forms = vectorForms(family.layout);
  return (values, device) => {
    const shape = family.shape(values);
    const size = preferredSize(family.layout, shape, device.software);
    for (let i = forms.length - 1; i >= 0; i--) {
      if (!loads(family.layout, size, forms[i]) || !divides(family.layout, forms[i], shape)) continue;
      return variantName(size, forms[i], family.epilogue(values));
    }
    throw new Error("The first form of every layout fits every shape");
  };
}

function preferredSize(_layout: Layout, { m, groups }: Shape, software: boolean): Size {
  const rows = Math.ceil(m / groups);
  if (rows <= 2) return SIZES[0];
  if (!software || rows <= 4) return SIZES[1];
  return SIZES[2];
}
