/**
 * A round whose microbatches come in several shares: the gradients of each share are accumulated from zero, and the shares
 * added in order, ((first + second) + third), as replicas that have a share each would add them.
 *
 * @module
 */
import { add, type Device, type View } from "../../kernels/mod.ts";
import type { Parameters } from "../parameters.ts";

/** Sums of shares on one device; with one share there is nothing to add and nothing is allocated. */
export class ShareSums {
  readonly #device: Device;
  readonly #pairs: readonly { readonly gradient: View; readonly sum: View }[];
  readonly #parameters: Parameters;
  readonly #shares: number;
  #folded = 0;

  /** `shares` of a round; `parameters` must be held for training. */
  constructor(device: Device, parameters: Parameters, shares: number) {
    this.#device = device;
    this.#parameters = parameters;
    this.#shares = shares;
    this.#pairs = shares < 2 ? [] : parameters.flats.map(({ words, gradient }) => ({
      gradient: gradient!,
      sum: device.allocate(words, "gradients of shares"),
    }));
  }

  /** The gradients of one more share are complete. After the last one they are those of all shares. */
  fold(): void {
    const place = this.#folded++;
    if (place >= this.#shares) throw new Error(`A round of ${this.#shares} shares was folded once more`);
    if (this.#shares < 2) return;
    for (const { gradient, sum } of this.#pairs) {
      if (place === 0) this.#device.copy(gradient, sum);
      else if (place < this.#shares - 1) {
        this.#device.run(add, { x: gradient, y: sum }, { length: sum.length });
      } else this.#device.run(add, { x: sum, y: gradient }, { length: sum.length });
    }
    if (place < this.#shares - 1) this.#parameters.clearGradients();
  }

  /** Whether shares of this round were folded. */
  get begun(): boolean {
    return this.#folded > 0;
  }

  /** The next round begins. */
  reset(): void {
    this.#folded = 0;
  }
}
