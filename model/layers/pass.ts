/**
 * What every part of a pass over one microbatch needs to know.
 *
 * @module
 */
import { type Device, ropeTable, type View } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import type { Precision } from "../precision.ts";
import { type Products, productsOf } from "./products.ts";
import { WeightsAtOnce, type WeightWork } from "./weight_work.ts";

/** Training keeps what the backward pass needs, evaluation nothing. */
export type Mode = "train" | "evaluate";

/** A microbatch on a device. */
export interface Pass {
  readonly device: Device;
  readonly config: ModelConfig;
  /** The matrix products, in the precision of the parameters. */
  readonly products: Products;
  /** Takes what the backward pass adds to the gradients of weights. */
  readonly weights: WeightWork;
  readonly mode: Mode;
  readonly microbatch: number;
  /** Microbatches of the round, over which balancing and z-loss are averaged. */
  readonly microbatches: number;
  /** Sequences. */
  readonly batch: number;
  /** Tokens of each sequence. */
  readonly sequence: number;
  /** batch * sequence. */
  readonly rows: number;
  /** RoPE's cosines and sines, [at least sequence, headDim]. */
  readonly table: View;
  /** u32 [0, rows]: all rows as one group. */
  readonly span: View;
}

/** Sizes of a microbatch. */
export type PassSize = Pick<Pass, "mode" | "microbatch" | "microbatches" | "batch" | "sequence">;

/** Tables that passes of the same sizes share, kept on the device. */
export class PassTables {
  readonly #device: Device;
  readonly #config: ModelConfig;
  readonly #products: Products;
  readonly #weights: WeightWork;
  #positions = 0;
  readonly #tables: View[] = [];
  readonly #spans = new Map<number, View>();

  /** `precision` is that of the parameters. */
  constructor(device: Device, config: ModelConfig, precision: Precision = "f32") {
    this.#device = device;
    this.#config = config;
    this.#products = productsOf(precision);
    this.#weights = new WeightsAtOnce(device);
  }

  /** A pass of these sizes. */
  pass(size: PassSize): Pass {
    const rows = size.batch * size.sequence;
    return {
      ...size,
      rows,
      device: this.#device,
      config: this.#config,
      products: this.#products,
      weights: this.#weights,
      table: this.rotations(size.sequence),
      span: this.#span(rows),
    };
  }

  /** RoPE's table for at least `positions` positions. Outgrown ones stay: a pass under way may still use them. */
  rotations(positions: number): View {
    if (this.#positions < positions) {
      const { headDim, ropeTheta } = this.#config;
      const size = Math.max(positions, 2 * this.#positions);
      const table = this.#device.allocate(size * headDim, "rotations");
      this.#device.write(table, ropeTable(size, headDim, ropeTheta) as Float32Array<ArrayBuffer>);
      this.#tables.push(table);
      this.#positions = size;
    }
    return this.#tables[this.#tables.length - 1];
  }

  #span(rows: number): View {
    const known = this.#spans.get(rows);
    if (known !== undefined) return known;
    const view = this.#device.allocate(2, "row span");
    this.#device.write(view, Uint32Array.of(0, rows));
    this.#spans.set(rows, view);
    return view;
  }

  release(): void {
    for (const view of [...this.#tables, ...this.#spans.values()]) this.#device.release(view);
    this.#tables.length = 0;
    this.#spans.clear();
    this.#positions = 0;
  }
}
