/**
 * The experts of one layer that a device holds, run on rows that lie in groups, an expert's each: its own, or those of
 * another worker.
 *
 * Legend: R rows (one for each assignment of a token to an expert), D hidden, F width of an expert, G experts held.
 *
 * @module
 */
import type { Device, View } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import { type BoundBlock, trained } from "../parameters.ts";
import { Scope } from "../scope.ts";
import type { Products } from "./products.ts";
import type { WeightWork } from "./weight_work.ts";

/** The held experts of one layer, ids ascending. */
export interface HeldExperts {
  readonly experts: readonly number[];
  /** [G, 2F, D] */
  readonly gateUp: BoundBlock;
  /** [G, D, F] */
  readonly down: BoundBlock;
}

/** Rows in groups: expert g's are offsets[g]..offsets[g + 1]. */
export interface GroupedRows {
  /** Operand [count, D]. */
  readonly rows: View;
  /** u32, at least G + 1 words. */
  readonly offsets: View;
  /** How many rows there are, or an upper bound. */
  readonly count: number;
}

/** What the backward pass needs besides the rows. */
export interface ExpertsKept {
  /** f32 [R, 2F] */
  readonly gateUp: View;
  /** Operand [R, F]. */
  readonly inner: View;
}

/** Writes down(silu(gate(x)) * up(x)) for each row to `out` (f32 [R, D]); what is kept is taken from `scope`. */
export function expertsForward(
  device: Device,
  products: Products,
  config: ModelConfig,
  held: HeldExperts,
  { rows, offsets, count }: GroupedRows,
  out: View,
  scope: Scope,
): ExpertsKept {
  const { hiddenSize: D, intermediateSize: F } = config;
  const groups = held.experts.length;
  const gateUp = scope.take(count * 2 * F, "experts' gate and up");
  device.run(products.groupedNT, { a: rows, b: held.gateUp.operand, offsets, c: gateUp }, {
    rows: count,
    n: 2 * F,
    k: D,
    first: 0,
    groups,
  });
  const inner = scope.take(count * products.words(F), "experts' gated values");
  device.run(products.swiglu, { gu: gateUp, offsets, y: inner }, { rows: count, width: F, first: 0, groups });
  device.run(products.groupedNT, { a: inner, b: held.down.operand, offsets, c: out }, {
    rows: count,
    n: D,
    k: F,
    first: 0,
    groups,
  });
  return { gateUp, inner };
}

/**
 * Writes the gradient of the rows to `din` (f32 [R, D]), given that of the outputs, `dout` (f32 [R, D]), and gives `weights`
 * what adds to the experts' gradients. The experts' parameters must be held for training.
 */
export function expertsBackward(
  device: Device,
  products: Products,
  weights: WeightWork,
  config: ModelConfig,
  held: HeldExperts,
  { rows, offsets, count }: GroupedRows,
  kept: ExpertsKept,
  dout: View,
  din: View,
): void {
  const { hiddenSize: D, intermediateSize: F } = config;
  const gateUp = trained(held.gateUp), down = trained(held.down);
  const shared = { rows: count, first: 0, groups: held.experts.length };
  const scope = new Scope(device);
  const dinner = scope.take(count * F, "gradient of experts' gated values");
  const a = products.operand(device, scope, dout, count, D);
  device.run(products.groupedNN, { a, b: down.operand, offsets, c: dinner }, { ...shared, n: F, k: D });
  weights.run(products.groupedTN, { a, b: kept.inner, offsets, c: down.gradient }, {
    ...shared,
    m: D,
    n: F,
    accumulate: 1,
  });
  const dgateUp = scope.take(count * products.words(2 * F), "gradient of experts' gate and up");
  device.run(products.swigluBackward, { gu: kept.gateUp, dy: dinner, offsets, dgu: dgateUp }, {
    ...shared,
    width: F,
  });
  weights.run(products.groupedTN, { a: dgateUp, b: rows, offsets, c: gateUp.gradient }, {
    ...shared,
    m: 2 * F,
    n: D,
    accumulate: 1,
  });
  device.run(products.groupedNN, { a: dgateUp, b: gateUp.operand, offsets, c: din }, {
    ...shared,
    n: D,
    k: 2 * F,
  });
  weights.release(scope);
}

/** Steps in which numbers of rows are rounded up, in an octave. */
const STEPS_PER_OCTAVE = 4;

/**
 * A number of rows (above zero), rounded up for the sizes of memory and grids: routers send ever other numbers, and what is
 * made for each (blocks of memory, bind groups, parameters) should be found again. Results don't change: offsets bound the
 * real rows.
 */
export function roundedRows(count: number): number {
  const step = Math.max(8, 2 ** Math.floor(Math.log2(count)) / STEPS_PER_OCTAVE);
  return Math.ceil(count / step) * step;
}
