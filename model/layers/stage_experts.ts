/**
 * The mixtures of experts in a stage's layers: where each layer's experts are, and what they are balanced over.
 *
 * @module
 */
import type { Device, View } from "../../kernels/mod.ts";
import type { Parameters } from "../parameters.ts";
import type { ExpertBank } from "./expert_bank.ts";
import { type RowExchanger, slotsOf } from "./expert_exchange.ts";
import { sharedExpert } from "./mlp_block.ts";
import { type Balance, type MoeBlock, statsWords } from "./moe_block.ts";

/** Whose experts a stage asks. */
export interface ExpertPlaces {
  /** Layers [from, to). */
  readonly from: number;
  readonly to: number;
  /** This worker's name among the hosts. */
  readonly self: string;
  /** For each layer the host of each expert; empty for a dense layer. */
  readonly hosts: readonly (readonly string[])[];
  /** Reaches experts of other hosts. */
  readonly exchange: RowExchanger;
}

/** The blocks of a stage's layers, with what they need on the device. */
export class StageExperts {
  /** Of each layer; undefined where the model is dense. */
  readonly blocks: readonly (MoeBlock | undefined)[];
  readonly #device: Device;
  /** Experts of a layer. */
  readonly #experts: number;
  readonly #balances: readonly Balance[];
  /** Slots and shares. */
  readonly #views: View[] = [];

  /** Throws `RangeError` for hosts that are not of these layers and experts. */
  constructor(device: Device, parameters: Parameters, bank: ExpertBank, places: ExpertPlaces) {
    const { from, to, hosts } = places, { experts } = parameters.config;
    if (hosts.length !== to - from || hosts.some((of) => of.length !== experts)) {
      throw new RangeError(
        `A stage of layers ${from} to ${to} with ${experts} experts each got hosts for ` +
          `[${hosts.map((of) => of.length)}]`,
      );
    }
    this.#device = device;
    this.#experts = experts;
    this.#balances = hosts.map(() => ({}));
    this.blocks = this.#balances.map((balance, i) =>
      experts > 0 ? this.#block(parameters, bank, places, i, balance) : undefined
    );
  }

  #block(
    parameters: Parameters,
    bank: ExpertBank,
    { from, hosts, self, exchange }: ExpertPlaces,
    place: number,
    balance: Balance,
  ): MoeBlock {
    const layer = from + place, slots = slotsOf(hosts[place], self);
    const slotOf = this.#device.allocate(slots.slotOf.length, "slots of experts");
    this.#views.push(slotOf);
    this.#device.write(slotOf, slots.slotOf);
    return {
      layer,
      norm: parameters.block("post-norm", layer),
      router: parameters.block("router", layer),
      shared: sharedExpert(parameters, layer),
      held: bank.layer(layer),
      slots,
      slotOf,
      balance,
      exchange,
    };
  }

  /** What the experts of each layer are balanced over, f32 [experts]; undefined where it is the microbatch. */
  shares(): (Float32Array<ArrayBuffer> | undefined)[] {
    return this.#balances.map(({ shares }) => shares);
  }

  /**
   * From now on experts are balanced over what `loads` counts: assignments of each expert, by layer of the stage. A layer
   * without any assignment is left as it is.
   *
   * @throws {RangeError} For loads that are not of these layers and experts.
   */
  balance(loads: readonly (readonly number[])[]): void {
    const experts = this.#experts;
    if (loads.length !== this.#balances.length || loads.some((counts) => counts.length !== experts)) {
      throw new RangeError(
        `A stage of ${this.#balances.length} layers with ${experts} experts each got loads for [${
          loads.map((counts) => counts.length)
        }]`,
      );
    }
    for (const [i, counts] of loads.entries()) {
      const all = counts.reduce((a, b) => a + b, 0), balance = this.#balances[i];
      if (all === 0) continue;
      const stats = new Float32Array(statsWords(experts));
      counts.forEach((count, e) => stats[e] = count / all);
      balance.shares = stats.slice(0, experts);
      if (balance.stats === undefined) {
        balance.stats = this.#device.allocate(stats.length, "shares of the whole batch");
        this.#views.push(balance.stats);
      }
      this.#device.write(balance.stats, stats);
    }
  }

  /** Gives memory back. */
  release(): void {
    for (const view of this.#views) this.#device.release(view);
    this.#views.length = 0;
  }
}
