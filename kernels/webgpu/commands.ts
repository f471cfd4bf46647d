/**
 * Commands on their way to the driver: recorded into few passes, submitted together.
 *
 * @module
 */
import { DeviceError } from "../errors.ts";
import type { Health } from "./health.ts";
import type { Leftovers } from "./leftovers.ts";

/** Dispatches after which recorded work is submitted by itself, so that the device starts while more is recorded. */
const DISPATCHES_PER_SUBMIT = 256;

/** Bytes written after which they are handed to the device: until then the driver holds a copy of each write. */
const WRITTEN_PER_SUBMIT = 16 << 20;

/** A dispatch with all that it needs. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Where the parameters lie; undefined for a kernel without. */
  readonly params: number | undefined;
  readonly grid: readonly [number, number, number];
}

/** One encoder at a time. */
export class Commands {
  readonly #device: GPUDevice;
  readonly #health: Health;
  readonly #leftovers: Leftovers;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  #dispatches = 0;
  /** Bytes written since the last submission. */
  #written = 0;
  #submission = 0;

  constructor(device: GPUDevice, health: Health, leftovers: Leftovers) {
    this.#device = device;
    this.#health = health;
    this.#leftovers = leftovers;
    // Everything between two answers happens inside one error scope.
    device.pushErrorScope("validation");
  }

  /** The number of the submission that is being recorded. */
  get submission(): number {
    return this.#submission;
  }

  /** Records a dispatch; with `alone` in a pass of its own that begins like that. */
  dispatch({ pipeline, group, params, grid }: Dispatch, alone?: GPUComputePassDescriptor): void {
    if (alone !== undefined) this.#begin(this.copying(), alone);
    else if (this.#pass === undefined) this.#begin(this.copying());
    const pass = this.#pass!;
    if (this.#pipeline !== pipeline) pass.setPipeline(this.#pipeline = pipeline);
    if (params === undefined) pass.setBindGroup(0, group);
    else pass.setBindGroup(0, group, [params]);
    pass.dispatchWorkgroups(...grid);
    if (++this.#dispatches >= DISPATCHES_PER_SUBMIT) this.submit();
  }

  #begin(encoder: GPUCommandEncoder, descriptor?: GPUComputePassDescriptor): void {
    this.#pass = encoder.beginComputePass(descriptor);
    this.#pipeline = undefined;
  }

  /** The encoder outside of a pass, for copies. */
  copying(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = undefined;
    return this.#encoder ??= this.#device.createCommandEncoder();
  }

  /** Bytes were given to the queue. */
  wrote(bytes: number): void {
    this.#written += bytes;
    if (this.#written < WRITTEN_PER_SUBMIT) return;
    this.copying();
    this.submit();
  }

  /** Hands over what is recorded. */
  submit(): void {
    if (this.#encoder === undefined) return;
    const encoder = this.copying();
    this.#encoder = undefined;
    this.#submission++;
    this.#written = 0;
    this.#dispatches = 0;
    this.#device.queue.submit([encoder.finish()]);
    this.#leftovers.add();
  }

  /** Asks the driver what it says to everything since the last question; {@linkcode Health.settle} waits for its answer. */
  ask(): void {
    const earlier = this.#health.answered();
    this.#health.watch(
      this.#device.popErrorScope().then(async (problem) => {
        if (problem === null) return undefined;
        // A program that was refused makes its dispatches fail as well: let the cause be told first.
        await earlier;
        return refused(problem);
      }),
    );
    this.#device.pushErrorScope("validation");
  }
}

/** The driver's refusal as an error of ours. */
export function refused(problem: GPUError): DeviceError {
  return new DeviceError(`WebGPU refused a command: ${problem.message.trim()}`);
}
