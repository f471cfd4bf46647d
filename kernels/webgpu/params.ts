/**
 * Parameter values on the device.
 *
 * @module
 */
import type { Kernel, Params, Values } from "../kernel.ts";
import { PARAMS_BYTES } from "./program.ts";

/** Different parameter values kept on the device; when all slots are taken, all are forgotten. */
const SLOTS = 4096;

/** One uniform buffer of slots by content: equal values, of whatever kernel, share a slot. */
export class ParamsTable {
  readonly #device: GPUDevice;
  readonly #buffer: GPUBuffer;
  readonly #slots = new Map<string, number>();
  readonly #words = new Uint32Array(PARAMS_BYTES / 4);
  readonly #floats = new Float32Array(this.#words.buffer);

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#buffer = device.createBuffer({
      label: "params",
      size: SLOTS * PARAMS_BYTES,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /**
   * The slot that holds these values. `beforeReuse` is called before slots that recorded work may still read change:
   * that work must be submitted, and what was kept about slots forgotten.
   */
  slot(kernel: Kernel, values: Values<Params>, beforeReuse: () => void): number {
    let count = 0;
    let key = "";
    for (const name in kernel.params) {
      if (kernel.params[name] === "u32") this.#words[count] = values[name];
      else this.#floats[count] = values[name];
      key += `${this.#words[count++]},`;
    }
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      if (this.#slots.size === SLOTS) {
        beforeReuse();
        this.#slots.clear();
      }
      slot = this.#slots.size;
      this.#slots.set(key, slot);
      this.#device.queue.writeBuffer(this.#buffer, slot * PARAMS_BYTES, this.#words, 0, count);
    }
    return slot;
  }

  /** What to bind. A slot lies `PARAMS_BYTES` times its number behind that: a dynamic offset. */
  get resource(): GPUBufferBinding {
    return { buffer: this.#buffer, offset: 0, size: PARAMS_BYTES };
  }

  close(): void {
    this.#buffer.destroy();
  }
}
