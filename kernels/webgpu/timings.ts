/**
 * How long each dispatch takes by the device's own clock, where the adapter offers timestamps.
 *
 * @module
 */
import { DeviceError } from "../errors.ts";
import type { Kernel, Params, Values } from "../kernel.ts";

/** The feature that has to be asked for. */
export const TIMESTAMPS = "timestamp-query";

/** Most queries of a set in WebGPU; a dispatch takes two. */
const MOST_QUERIES = 4096;

/** One dispatch and its time. */
export interface TimedCall {
  readonly kernel: Kernel;
  readonly values: Values<Params>;
  readonly milliseconds: number;
}

/** Timestamps around dispatches, each of which gets a pass of its own for it: what is timed runs a little slower. */
export class Timings {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #calls: { readonly kernel: Kernel; readonly values: Values<Params> }[] = [];
  /** Whether dispatches are timed now. */
  running = false;

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ label: "timings", type: "timestamp", count: MOST_QUERIES });
  }

  /** How the pass of the next dispatch begins. Throws {@linkcode DeviceError} where more are timed than fit. */
  next(kernel: Kernel, values: Values<Params>): GPUComputePassDescriptor {
    const first = 2 * this.#calls.length;
    if (first >= MOST_QUERIES) {
      throw new DeviceError(
        `Cannot time more than ${MOST_QUERIES / 2} dispatches at once: take the times more often`,
      );
    }
    this.#calls.push({ kernel, values: { ...values } });
    return {
      timestampWrites: {
        querySet: this.#queries,
        beginningOfPassWriteIndex: first,
        endOfPassWriteIndex: first + 1,
      },
    };
  }

  /** The times of all submitted dispatches since the last call. */
  async take(): Promise<TimedCall[]> {
    const calls = this.#calls.splice(0);
    if (calls.length === 0) return [];
    const size = 16 * calls.length;
    const resolved = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    const staging = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    const encoder = this.#device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, 2 * calls.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    this.#device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const nanoseconds = new BigUint64Array(staging.getMappedRange().slice(0));
    staging.destroy();
    resolved.destroy();
    return calls.map((call, i) => ({
      ...call,
      milliseconds: Number(nanoseconds[2 * i + 1] - nanoseconds[2 * i]) / 1e6,
    }));
  }

  close(): void {
    this.#queries.destroy();
  }
}
