/**
 * The outer half of local training (DiLoCo, Douillard et al. 2023): how far the own replica has come since all replicas
 * were alike, and Nesterov's momentum over the mean of that. On plain arrays, whose arithmetic is the same on every machine:
 * all replicas have the same weights behind an outer step, whatever their devices.
 *
 * @module
 */
import type { Parameters } from "../model/parameters.ts";
import { elements } from "../model/tensors.ts";

/** The settings of an outer step. */
export interface OuterSettings {
  readonly learningRate: number;
  readonly momentum: number;
}

/** Weights as they were behind the last outer step, and the momentum of tensors that this worker steps for all. */
export class OuterOptimizer {
  readonly #parameters: Parameters;
  readonly #anchors = new Map<string, Float32Array<ArrayBuffer>>();
  readonly #momenta = new Map<string, Float32Array<ArrayBuffer>>();

  constructor(parameters: Parameters) {
    this.#parameters = parameters;
  }

  /** The momentum of a tensor, as it is and as the next outer step changes it; zero before the first. */
  momentum(name: string): Float32Array<ArrayBuffer> {
    let momentum = this.#momenta.get(name);
    if (momentum === undefined) {
      const tensor = this.#parameters.tensors.find(({ spec }) => spec.name === name);
      if (tensor === undefined) throw new Error(`Tensor ${name} is not held by this device`);
      this.#momenta.set(name, momentum = new Float32Array(elements(tensor.spec.shape)));
    }
    return momentum;
  }

  /** Takes the weights as they are for those that all replicas have. */
  async begin(): Promise<void> {
    for (const { spec: { name }, copy } of this.#parameters.tensors) {
      if (!copy) this.#anchors.set(name, await this.#parameters.get(name, "weight"));
    }
  }

  #anchor(name: string): Float32Array<ArrayBuffer> {
    const anchor = this.#anchors.get(name);
    if (anchor === undefined) throw new Error(`There is no common weight of ${name} to start from`);
    return anchor;
  }

  /** Common weights - own weights: the outer gradient of a replica, tensors one behind the other. */
  async deltas(tensors: readonly string[]): Promise<ArrayBuffer> {
    const anchors = tensors.map((name) => this.#anchor(name));
    const words = new Float32Array(anchors.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const [i, name] of tensors.entries()) {
      const now = await this.#parameters.get(name, "weight"), anchor = anchors[i];
      for (let w = 0; w < anchor.length; w++) words[at + w] = anchor[w] - now[w];
      at += anchor.length;
    }
    return words.buffer;
  }

  /**
   * Steps tensors for all replicas. `deltas` are those of all pipelines in order (the own ones among them), `weights` what
   * each counts; sums run in order of the pipelines.
   *
   * ```text
   * d = sum of weight * delta        u = momentum * u + d        w = common - rate * (d + momentum * u)
   * ```
   */
  step(
    tensors: readonly string[],
    deltas: readonly ArrayBuffer[],
    weights: readonly number[],
    { learningRate, momentum }: OuterSettings,
  ): void {
    const of = deltas.map((words) => new Float32Array(words));
    let at = 0;
    for (const name of tensors) {
      const anchor = this.#anchor(name), momenta = this.momentum(name);
      for (let w = 0; w < anchor.length; w++) {
        let d = 0;
        for (let p = 0; p < of.length; p++) d += weights[p] * of[p][at + w];
        momenta[w] = momentum * momenta[w] + d;
        anchor[w] -= learningRate * (d + momentum * momenta[w]);
      }
      this.#parameters.put(name, "weight", 0, anchor);
      at += anchor.length;
    }
  }

  /** Takes over weights that another worker stepped. */
  adopt(tensors: readonly string[], words: ArrayBuffer): void {
    let at = 0;
    for (const name of tensors) {
      const anchor = this.#anchor(name);
      anchor.set(new Float32Array(words, at, anchor.length));
      this.#parameters.put(name, "weight", 0, anchor);
      at += 4 * anchor.length;
    }
  }
}
