/**
 * What a kernel is: one WGSL program, the plain-array function that says what it computes, and what it costs.
 *
 * @module
 */
import type { DeviceInfo } from "./device_info.ts";

/** How a kernel sees one of its arguments: the element type in WGSL, and whether it may write there. */
export type Binding = `${"f32" | "u32" | "vec4f"} ${"read" | "write"}`;

/** The bindings of a kernel, in order of their binding numbers. */
export type Bindings = Readonly<Record<string, Binding>>;

/** The scalar parameters of a kernel, in order of their place in the uniform struct. */
export type Params = Readonly<Record<string, "u32" | "f32">>;

/** The plain array that the reference function gets for a binding. */
export type ArrayFor<B extends Binding> = B extends `u32 ${string}` ? Uint32Array : Float32Array;

/** The arrays of a call to the reference, by binding name. */
export type Arrays<B extends Bindings> = { readonly [Name in keyof B]: ArrayFor<B[Name]> };

/** The values of a call's parameters, by name. */
export type Values<P extends Params> = { readonly [Name in keyof P]: number };

/** Workgroups in x, y, z. A single number is a linear count, which the device folds into x and y where it must. */
export type Grid = number | readonly [x: number, y: number, z: number];

/** What one dispatch costs; the planner sums these (see costs.ts). */
export interface Cost {
  /** Multiply and add count as one operation each. */
  readonly flops: number;
  /** Bytes of device memory that must move at the least. */
  readonly bytes: number;
}

/** One way to compute a kernel: a tile size, a memory layout. All variants agree bit for bit. */
export interface Variant<P extends Params> {
  readonly name: string;
  /** The program, without declarations: they are generated from `bindings` and `params`. */
  readonly wgsl: string;
  /** How many workgroups a call takes. */
  readonly grid: (values: Values<P>) => Grid;
  /** Element types that this variant wants instead of those in `bindings` (vec4f for f32, vec4u for u32). */
  readonly elements?: Readonly<Record<string, "f32" | "vec4f" | "vec2u" | "vec4u">>;
  /** Lanes that each subgroup must have for the program, which speaks of subgroups. Absent: it does not. */
  readonly subgroup?: number;
  /** Whether it can compute this call (for instance only widths that four divides). Absent: always. */
  readonly fits?: (values: Values<P>) => boolean;
}

/** A call that is timed instead of another one of its class. */
export interface Sample<P extends Params> {
  readonly values: Values<P>;
  /** For each binding its number of words, which may be zeros, or what must stand there. */
  readonly words: Readonly<Record<string, number | Uint32Array<ArrayBuffer>>>;
}

/** What a tuner needs to find out which variants suit a device: variants of one *size* serve calls of one class. */
export interface Tuning<P extends Params> {
  /** Calls of a class, whatever their kernel, take about equally long by the same size. */
  readonly shapeClass: (values: Values<P>) => string;
  /** The sizes worth measuring for a call on a device, from the quickest to compile. */
  readonly sizes: (values: Values<P>, device: DeviceInfo) => string[];
  /** The variant of a size that fits a call; nothing where there is no such size (any more). */
  readonly variant: (size: string, values: Values<P>) => string | undefined;
  readonly sample: (values: Values<P>, device: DeviceInfo) => Sample<P>;
}

/** A kernel. Make one with {@linkcode defineKernel}. */
export interface Kernel<B extends Bindings = Bindings, P extends Params = Params> {
  readonly name: string;
  readonly bindings: B;
  readonly params: P;
  /** At least one; without a word from `prefer` or a tuner the device takes the last that fits. */
  readonly variants: readonly Variant<P>[];
  /** Names the variant that suits a call on a device, where the last that fits is not always the best. */
  readonly prefer?: (values: Values<P>, device: DeviceInfo) => string;
  /** How to measure which variants are best; then `prefer` counts until that is done. */
  readonly tuning?: Tuning<P>;
  readonly cost: (values: Values<P>) => Cost;
  /** The same computation on plain arrays, sums in the same order as the program's. */
  readonly reference: (arrays: Arrays<B>, values: Values<P>) => void;
}

/** What {@linkcode defineKernel} takes: a kernel with one variant says `wgsl` and `grid`, one with more `variants`. */
export type KernelDefinition<B extends Bindings, P extends Params> =
  & Omit<Kernel<B, P>, "variants">
  & (Pick<Variant<P>, "wgsl" | "grid"> | Pick<Kernel<B, P>, "variants">);

const registry = new Map<string, Kernel>();

/** Defines a kernel and enters it in the list that {@linkcode kernels} returns. Names are unique. */
export function defineKernel<const B extends Bindings, const P extends Params>(
  definition: KernelDefinition<B, P>,
): Kernel<B, P> {
  if (registry.has(definition.name)) throw new Error(`Kernel ${definition.name} is defined twice`);
  const variants = "variants" in definition
    ? definition.variants
    : [{ name: "only", wgsl: definition.wgsl, grid: definition.grid }];
  const { name, bindings, params, prefer, tuning, cost, reference } = definition;
  const kernel: Kernel<B, P> = { name, bindings, params, variants, prefer, tuning, cost, reference };
  registry.set(name, kernel as unknown as Kernel);
  return kernel;
}

/** Every kernel that has been defined so far, in order of definition. */
export function kernels(): readonly Kernel[] {
  return [...registry.values()];
}
