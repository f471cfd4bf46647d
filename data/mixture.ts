/**
 * Which domain and which window each sample reads, so that every domain has its share: a pure function of
 * the seed and the sample's position, as without domains.
 *
 * @module
 */
import { permutation } from "../model/text/data_order.ts";
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

  /** @param perTurn samples in a row that share a domain: 1, or those of a microbatch */
  constructor(readonly domains: readonly DrawnDomain[], seed: number, readonly perTurn = 1) {
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

  /** The domain and the window of the sample at a position of the whole run, counted from 0. */
  at(position: number): Sample {
    const turn = Math.floor(position / this.perTurn), place = turn % cycle;
    const domain = this.#domain[place];
    const turns = Math.floor(turn / cycle) * this.#turns[domain] + this.#before[place];
    const index = turns * this.perTurn + position % this.perTurn;
    const { windows } = this.domains[domain], epoch = Math.floor(index / windows);
    return { domain, epoch, window: this.#order(domain, epoch)(index % windows) };
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
