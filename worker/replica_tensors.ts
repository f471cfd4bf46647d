/**
 * What replicas exchange, on the device of one of them: gradients on their way to the owner of a tensor and their sum,
 * weights on their way back.
 *
 * @module
 */
import { add, ALIGNMENT, type Device, part as span, type View } from "../kernels/mod.ts";
import type { Parameters } from "../model/parameters.ts";

/** A place in the last backward pass of a round. */
interface Place {
  readonly stage: number;
  readonly layer: number;
}

/** Weights that were expected will never come: the generation in which they were on their way is over. */
export class WeightsLostError extends Error {
  override readonly name = "WeightsLostError";
}

/** Weights of one layer that are on their way. */
interface Coming extends PromiseWithResolvers<void> {
  readonly tensors: Set<string>;
}

/** Tensors by name as spans of the device, read, written and added whole. */
export class ReplicaTensors {
  readonly #device: Device;
  readonly #parameters: Parameters;
  #waiting: { readonly place: Place; readonly begin: () => void }[] = [];
  /** By layer. */
  readonly #coming = new Map<number, Coming>();

  constructor(device: Device, parameters: Parameters) {
    this.#device = device;
    this.#parameters = parameters;
  }

  /** Words of tensors, one behind the other. */
  read(part: "weight" | "gradient", tensors: readonly string[]): Promise<ArrayBuffer> {
    return this.#device.readJoined(tensors.map((name) => this.#parameters.view(name, part)));
  }

  /** Reads gradients when the last backward pass has left a layer: before the device's work on the next one. */
  readAfter(place: Place, tensors: readonly string[]): Promise<ArrayBuffer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ place, begin: () => void this.read("gradient", tensors).then(resolve, reject) });
    });
  }

  /** The last backward pass has left a layer. */
  left(stage: number, layer: number): void {
    const here = this.#waiting.filter(({ place }) => place.stage === stage && place.layer === layer);
    this.#waiting = this.#waiting.filter((waiting) => !here.includes(waiting));
    for (const { begin } of here) begin();
  }

  /**
   * Weights of these tensors are going to be written. Of what was expected before, nothing more will come: whoever waits for
   * it, or comes to it later, gets a {@linkcode WeightsLostError}.
   */
  expect(tensors: readonly string[]): void {
    for (const [layer, { reject }] of this.#coming) {
      reject(new WeightsLostError(`The weights of layer ${layer} have not come, and will not any more`));
    }
    const wanted = new Set(tensors), fresh = new Map<number, Coming>();
    for (const { spec: { name, layer } } of this.#parameters.tensors) {
      if (!wanted.has(name)) continue;
      let coming = fresh.get(layer);
      if (coming === undefined) {
        coming = { ...Promise.withResolvers<void>(), tensors: new Set() };
        coming.promise.catch(() => {}); // perhaps nobody waits
        fresh.set(layer, coming);
        this.#coming.set(layer, coming);
      }
      coming.tensors.add(name);
    }
  }

  /** Resolves when all weights of a layer that are expected have been written; undefined where there is none. */
  coming(layer: number): Promise<void> | undefined {
    return this.#coming.get(layer)?.promise;
  }

  #written(name: string): void {
    for (const [layer, { tensors, resolve }] of this.#coming) {
      if (!tensors.delete(name) || tensors.size > 0) continue;
      this.#coming.delete(layer);
      resolve();
    }
  }

  /** Sets weights, one behind the other. */
  write(tensors: readonly string[], words: ArrayBuffer): void {
    let at = 0;
    for (const name of tensors) {
      const view = this.#parameters.view(name, "weight");
      this.#device.write(view, new Float32Array(words, at, view.length));
      at += 4 * view.length;
    }
    if (at !== words.byteLength) {
      throw new RangeError(`Weights of ${at} bytes came as ${words.byteLength} bytes`);
    }
    for (const name of tensors) this.#written(name);
  }

  /** Adds replicas' gradients to the own ones: `before` in order, the own, `behind` in order. */
  add(tensors: readonly string[], before: readonly ArrayBuffer[], behind: readonly ArrayBuffer[]): void {
    let at = 0;
    for (const name of tensors) {
      const { whole, lead, length } = this.#aligned(name);
      // Sums of two do not depend on their order: what comes before is added up first, then to the own.
      const sums = before.length > 0
        ? [before, ...behind.map((words) => [words])]
        : behind.map((words) => [words]);
      for (const [first, ...others] of sums) {
        const x = this.#upload(first, at, lead, length);
        for (const words of others) {
          const more = this.#upload(words, at, lead, length);
          this.#device.run(add, { x: more, y: x }, { length: lead + length });
          this.#device.release(more);
        }
        this.#device.run(add, { x, y: whole }, { length: lead + length });
        this.#device.release(x);
      }
      at += 4 * length;
    }
  }

  /** A tensor's gradient with the words before it from where kernels can bind it. */
  #aligned(name: string): { whole: View; lead: number; length: number } {
    const { offset, length, memory } = this.#parameters.view(name, "gradient");
    const lead = offset % ALIGNMENT;
    return { whole: { memory, offset: offset - lead, length: lead + length }, lead, length };
  }

  /** Words from byte `at`, behind `lead` words of -0, which change nothing that they are added to. */
  #upload(words: ArrayBuffer, at: number, lead: number, length: number): View {
    const view = this.#device.allocate(lead + length, "gradients of a replica");
    if (lead > 0) this.#device.write(view, new Float32Array(lead).fill(-0));
    this.#device.write(span(view, lead, length), new Float32Array(words, at, length));
    return view;
  }
}
