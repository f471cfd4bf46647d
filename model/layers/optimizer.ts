/**
 * The end of a round on one device: the size of every owned tensor's gradient, then AdamW.
 *
 * @module
 */
import {
  adamw,
  adamwScalars,
  type AdamwSettings,
  add,
  type Device,
  foldSquares,
  type SquareTables,
  squareTables,
  sumSquares,
  type View,
} from "../../kernels/mod.ts";
import type { BoundFlat, Parameters, TensorSpan } from "../parameters.ts";

/** The gradient of one tensor: its sum of squares, and whether every element is finite (the sum is 0 where not). */
export interface GradientSize {
  readonly name: string;
  readonly sum: number;
  readonly finite: boolean;
}

interface Measure {
  readonly flat: BoundFlat;
  readonly tensors: readonly TensorSpan[];
  readonly tables: SquareTables;
  readonly chunks: View;
  readonly segments: View;
  readonly partials: View;
  readonly totals: View;
  readonly flags: View;
}

/** AdamW over the parameters that a device owns. */
export class Optimizer {
  readonly #device: Device;
  readonly #parameters: Parameters;
  readonly #measures: readonly Measure[];
  readonly #scalars: View;

  /** `parameters` must be held for training. */
  constructor(device: Device, parameters: Parameters) {
    this.#device = device;
    this.#parameters = parameters;
    this.#measures = parameters.flats.flatMap((flat, index) => {
      const tensors = parameters.tensors.filter((tensor) => tensor.flat === index);
      return flat.copy ? [] : [this.#prepare(flat, tensors)];
    });
    this.#scalars = device.allocate(8, "optimizer settings");
  }

  #prepare(flat: BoundFlat, tensors: readonly TensorSpan[]): Measure {
    const device = this.#device;
    const tables = squareTables(tensors);
    const upload = (words: Uint32Array<ArrayBuffer>, label: string) => {
      const view = device.allocate(words.length, label);
      device.write(view, words);
      return view;
    };
    return {
      flat,
      tensors,
      tables,
      chunks: upload(tables.chunks, "chunks of gradients"),
      segments: upload(tables.segments, "gradients of tensors"),
      partials: device.allocate(tables.partialWords, "partial sums of squares"),
      totals: device.allocate(tables.segmentCount, "sums of squares"),
      flags: device.allocate(tables.segmentCount, "non-finite gradients"),
    };
  }

  /** Adds the head's share of a tied embedding's gradient where both are here, head + embedding. */
  joinTied(): void {
    const share = this.#parameters.tiedGradient;
    const { gradient } = share ? this.#parameters.block("embedding", -1) : {};
    if (share === undefined || gradient === undefined) return;
    this.#device.run(add, { x: share, y: gradient }, { length: share.length });
    this.#device.clear(share);
  }

  /** Measures the gradients of owned tensors; the answer's views are for {@linkcode sizes}. */
  measure(): View[] {
    for (const { flat, tables, chunks, segments, partials, totals, flags } of this.#measures) {
      const g = flat.gradient!;
      this.#device.run(sumSquares, { g, chunks, partials }, {
        chunks: tables.chunkCount,
        aligned: tables.aligned,
      });
      this.#device.run(foldSquares, { partials, segments, totals, flags }, { segments: tables.segmentCount });
    }
    return this.#measures.flatMap(({ totals, flags }) => [totals, flags]);
  }

  /** Reads what {@linkcode measure}'s views contain; in order of the model's parameter table. */
  sizes(buffers: readonly ArrayBuffer[]): GradientSize[] {
    const sizes = this.#measures.flatMap(({ tensors }, i) => {
      const totals = new Float32Array(buffers[2 * i]), flags = new Uint32Array(buffers[2 * i + 1]);
      return tensors.map(({ spec }, t) => ({
        order: spec.order,
        size: { name: spec.name, sum: totals[t], finite: flags[t] === 0 },
      }));
    });
    return sizes.sort((a, b) => a.order - b.order).map(({ size }) => size);
  }

  /** One step of AdamW over owned tensors, weight decay on matrices only; then all gradients are zero. */
  step(settings: AdamwSettings, weightDecay: number): void {
    this.#device.write(this.#scalars, adamwScalars(settings));
    for (const { flat } of this.#measures) {
      const { weight: w, gradient, m, v, words, decay } = flat;
      this.#device.run(adamw, { w, g: gradient!, m: m!, v: v!, scalars: this.#scalars }, {
        length: words,
        decay: decay ? weightDecay : 0,
      });
    }
    this.#parameters.changed();
    this.#parameters.clearGradients();
  }

  release(): void {
    this.#device.release(this.#scalars);
    for (const { chunks, segments, partials, totals, flags } of this.#measures) {
      for (const view of [chunks, segments, partials, totals, flags]) this.#device.release(view);
    }
  }
}

/**
 * The factor that brings gradients to a norm of at most `limit`, and that norm; sums in the order given, in float64.
 * (Clipping by the global norm, Pascanu et al. 2013; the small constant is PyTorch's.)
 */
export function clipFactor(sizes: readonly GradientSize[], limit: number): { norm: number; clip: number } {
  let total = 0;
  for (const { sum } of sizes) total += sum;
  const norm = Math.sqrt(total);
  return { norm, clip: Math.min(1, limit / (norm + 1e-6)) };
}
