/**
 * What a forward pass finds out besides its output: the statistics of routers and the losses of rows. They stay on the
 * device, in one span for each pass, until somebody reads them together with something else.
 *
 * @module
 */
import { ALIGNMENT, part, type View } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import { statsWords } from "./moe_block.ts";

/** The notes of one pass. */
export interface Notes {
  readonly view: View;
  readonly microbatch: number;
  /** Tokens of the pass. */
  readonly rows: number;
}

/** Losses of one microbatch in one stage; see the message of that name. */
export interface StageLosses {
  readonly microbatch: number;
  /** Sum over labels that count, nats. */
  readonly ce: number;
  /** Sums over the stage's layers of the balancing loss E * sum of f_e P_e, and of the z-loss. */
  readonly balance: number;
  readonly z: number;
  /** Rows of each expert by layer. */
  readonly load: number[][];
  /** Where the stage has the head: the loss of each token. */
  readonly rows: Float32Array;
}

/** Where a stage's notes are: the statistics of each layer, at aligned places, then the losses of the head's rows. */
export class NoteLayout {
  readonly #experts: number;
  readonly #chosen: number;
  readonly #layers: number;
  readonly #stride: number;
  readonly #head: boolean;

  constructor(config: ModelConfig, layers: number, head: boolean) {
    this.#experts = config.experts;
    this.#chosen = config.expertsPerToken;
    this.#layers = config.experts > 0 ? layers : 0;
    this.#stride = Math.ceil(statsWords(config.experts) / ALIGNMENT) * ALIGNMENT;
    this.#head = head;
  }

  /** Words of the notes of a pass over `rows` tokens; at least one, since nothing is no span. */
  words(rows: number): number {
    return Math.max(1, this.#layers * this.#stride + (this.#head ? rows : 0));
  }

  /** The statistics of layer `index` of the stage. */
  stats(notes: View, index: number): View {
    return part(notes, index * this.#stride, statsWords(this.#experts));
  }

  /** The losses [rows]. */
  loss(notes: View, rows: number): View {
    return part(notes, this.#layers * this.#stride, rows);
  }

  /**
   * Reads notes that came back from the device. `shares`, by layer, are the f of the balancing loss where it is not the
   * microbatch's own.
   */
  read(
    { microbatch, rows }: Notes,
    bytes: ArrayBuffer,
    shares: readonly (Float32Array | undefined)[] = [],
  ): StageLosses {
    const words = new Float32Array(bytes), E = this.#experts;
    let ce = 0, balance = 0, z = 0;
    const load: number[][] = [];
    for (let layer = 0; layer < this.#layers; layer++) {
      const stats = words.subarray(layer * this.#stride, layer * this.#stride + statsWords(E));
      const f = shares[layer] ?? stats;
      let product = 0;
      for (let e = 0; e < E; e++) product += f[e] * stats[E + e];
      balance += onGrid(E * product);
      z += onGrid(stats[2 * E]);
      load.push(Array.from(stats.subarray(0, E), (share) => Math.round(share * rows * this.#chosen)));
    }
    const losses = this.#head ? words.subarray(this.#layers * this.#stride) : new Float32Array();
    for (const loss of losses) ce += loss;
    return { microbatch, ce, balance, z, load, rows: losses };
  }
}

/**
 * Rounds to a multiple of 2^-32. Sums of such numbers are exact in float64, so that the sum over a model's layers does
 * not depend on how they are spread over stages.
 */
function onGrid(value: number): number {
  return Math.round(value * 2 ** 32) / 2 ** 32;
}
