/**
 * The variants of each product: every tile size in every way of loading and storing that the layout has.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import type { Params, Tuning, Values, Variant } from "../kernel.ts";
import { preferredVariant, tuning } from "./choice.ts";
import type { Family, Shape } from "./family.ts";
import { sharedSource } from "./shared.ts";
import { divides, loads, offers, SHARED, type Size, SIZES, variantName, vectorForms } from "./sizes.ts";
import { type Tile, TOGETHER } from "./tile.ts";
import { tileSource } from "./tile_program.ts";

/** What {@linkcode defineKernel} wants to know of a family's variants. */
export function formsOf<P extends Params>(family: Family<P>): {
  variants: Variant<P>[];
  prefer: (values: Values<P>, device: DeviceInfo) => string;
  tuning: Tuning<P>;
} {
  return { variants: variants(family), prefer: preferredVariant(family), tuning: tuning(family) };
}

/** All variants of a family. */
function variants<P extends Params>(family: Family<P>): Variant<P>[] {
  const sizes = SIZES.filter((size) => offers(family, size));
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
        steps: size.steps,
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
