/**
 * Which domain and which window each sample of each step reads, so that every domain has its share: a pure function of
 * (seed, step, sample), as without domains.
 *
 * @module
 */
import { permutation } from "../model/data_order.ts";
import { randomStream } from "../model/random.ts";

/** A domain as it is drawn from. */
export interface DrawnDomain {
  readonly name: string;
  /** Share of the samples; the shares of a mixture add up to 1. */
  readonly proportion: number;
  /** Windows of an epoch. */
  readonly windows: number;
}

/** Where one sample is. */
export interface Sample {
  /** Index of the domain. */
  readonly domain: number;
  readonly epoch: number;
  readonly window: number;
}

/** Whether each sample has a domain of its own, or all samples of a microbatch share one. */
export type MixBy = "sample" | "microbatch";

/** Places of the cycle in which domains take turns: proportions are kept to within 1 / 8192. */
const cycle = 8_192;

/** See the module's description. */
export class Mixture {
  /** Domain of each place of the cycle, and how often the domain had its turn before. */
  readonly #domain = new Uint16Array(cycle);
  readonly #before = new Uint32Array(cycle);
  readonly #turns: Uint32Array;
  readonly #seeds: readonly number[];
  readonly #orders = new Map<string, (index: number) => number>();

  /**
   * @param perStep samples of a step
   * @param perTurn samples in a row that share a domain: 1, or those of a microbatch; divides `perStep`
   */
  constructor(
    readonly domains: readonly DrawnDomain[],
    readonly seed: number,
    readonly perStep: number,
    readonly perTurn = 1,
  ) {
    if (perStep % perTurn !== 0) throw new RangeError(`${perStep} samples in turns of ${perTurn}`);
    this.#turns = new Uint32Array(domains.length);
    // Whoever is furthest behind its share has the next turn, so that every stretch has the proportions.
    for (let place = 0; place < cycle; place++) {
      let next = 0, most = -Infinity;
      for (const [d, { proportion }] of domains.entries()) {
        const behind = proportion * (place + 1) - this.#turns[d];
        if (behind > most + 1e-12) [next, most] = [d, behind];
      }
      this.#domain[place] = next;
      this.#before[place] = this.#turns[next]++;
    }
    this.#seeds = domains.map(({ name }) => randomStream(seed, "domain", name).integer(2 ** 32));
  }

  /** The sample's domain and window; `step` counts from 0. */
  at(step: number, sample: number): Sample {
    const position = step * this.perStep + sample;
    const turn = Math.floor(position / this.perTurn), place = turn % cycle;
    const domain = this.#domain[place];
    const turns = Math.floor(turn / cycle) * this.#turns[domain] + this.#before[place];
    const index = turns * this.perTurn + position % this.perTurn;
    const { windows } = this.domains[domain], epoch = Math.floor(index / windows);
    return { domain, epoch, window: this.#order(domain, epoch)(index % windows) };
  }

  /** Epochs of each domain that a number of steps takes. */
  epochs(steps: number): number[] {
    const turns = Math.ceil(steps * this.perStep / this.perTurn);
    return this.domains.map(({ windows }, d) => {
      let taken = Math.floor(turns / cycle) * this.#turns[d];
      for (let place = 0; place < turns % cycle; place++) if (this.#domain[place] === d) taken++;
      return taken * this.perTurn / windows;
    });
  }

  #order(domain: number, epoch: number): (index: number) => number {
    const key = `${domain}/${epoch}`;
    let order = this.#orders.get(key);
    if (order === undefined) {
      if (this.#orders.size > 1024) this.#orders.clear();
      order = permutation(this.domains[domain].windows, this.#seeds[domain], epoch);
      this.#orders.set(key, order);
    }
    return order;
  }
}
