/**
 * Error feedback of outer gradients: what rounding them to int8 has left out so far, which the next ones make up for. By
 * tensor, so that a checkpoint can keep it.
 *
 * @module
 */
import { elements } from "../model/tensors.ts";
import type { Bundle } from "./replica_bundles.ts";

/** Zeros at first. Tensors of the own worker that other replicas own. */
export class Residuals {
  /** By the first tensor of a bundle: no tensor is in two. */
  readonly #words = new Map<string, Float32Array<ArrayBuffer>>();
  readonly #places = new Map<
    string,
    { readonly bundle: Bundle; readonly at: number; readonly length: number }
  >();

  constructor(bundles: readonly Bundle[]) {
    for (const bundle of bundles) {
      if (bundle.owned) continue;
      let at = 0;
      for (const { name, shape } of bundle.tensors) {
        const length = elements(shape);
        this.#places.set(name, { bundle, at, length });
        at += length;
      }
    }
  }

  /** Whether there is one of this tensor. */
  has(tensor: string): boolean {
    return this.#places.has(tensor);
  }

  /** Those of a bundle's tensors, one behind the other, as the encoder changes them. */
  of(bundle: Bundle): Float32Array<ArrayBuffer> {
    const key = bundle.tensors[0].name;
    let words = this.#words.get(key);
    if (words === undefined) this.#words.set(key, words = new Float32Array(bundle.words));
    return words;
  }

  /** That of one tensor. */
  view(tensor: string): Float32Array<ArrayBuffer> {
    const place = this.#places.get(tensor);
    if (place === undefined) {
      throw new Error(`Nothing is left out of ${tensor} here: it is not sent in outer steps`);
    }
    return this.of(place.bundle).subarray(place.at, place.at + place.length);
  }
}
