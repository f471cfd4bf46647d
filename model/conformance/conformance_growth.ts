/**
 * Growth and upcycling cases with known answers: every tensor of the model that comes out, and the losses of the model
 * before and after on one batch.
 *
 * @module
 */
import type { Device } from "../../kernels/mod.ts";
import { type CaseBatch, find, packBatch, Tally, type Tensors, type Verdict } from "./conformance.ts";
import { LoadedModel } from "../layers/local_model.ts";
import type { TensorSource } from "../source.ts";
import { elements, parameterTable } from "../tensors.ts";

/** A model, what was made of it, and what should have been. */
export interface GrownCase {
  readonly source: TensorSource;
  readonly grown: TensorSource;
  /** The expected tensors of `grown`. */
  readonly tensors: Tensors;
  readonly batch: CaseBatch;
  /** Mean cross-entropy before and after. */
  readonly losses: { readonly source_ce: number; readonly grown_ce: number };
}

/** Compares tensors, and the losses on a device. */
export async function checkGrownCase(device: Device, given: GrownCase): Promise<Verdict> {
  const worst = new Tally();
  const { grown, source, losses } = given;
  const specs = parameterTable(grown.config);
  for (const { name, shape } of specs) {
    const words = await grown.read(name, 0, elements(shape));
    worst.tensor("tensors", name, words, find(given.tensors, name));
  }
  for (const name of given.tensors.keys()) {
    // A tensor that the grown model lacks is as wrong as can be.
    if (!specs.some((spec) => spec.name === name)) {
      worst.tensor("tensors", name, new Float32Array(0), new Float32Array(1));
    }
  }
  const { sequences, labels } = packBatch(given.batch);
  for (
    const [what, model, ce] of [["before", source, losses.source_ce], [
      "after",
      grown,
      losses.grown_ce,
    ]] as const
  ) {
    const loaded = await LoadedModel.load(device, model);
    try {
      worst.scalar(`loss ${what}`, (await loaded.loss(sequences, labels)).ce, ce);
    } finally {
      loaded.release();
    }
  }
  return worst.verdict;
}
