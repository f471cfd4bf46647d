/**
 * The WebGPU device: commands are recorded lazily into few passes and submitted together.
 *
 * @module
 */
import { checkCall, checkCopy, checkView, checkWrite } from "../arguments.ts";
import { ALIGNMENT, type Device, type View, type Words } from "../device.ts";
import type { DeviceInfo } from "../device_info.ts";
import { DeviceError, DeviceLostError, OutOfMemoryError } from "../errors.ts";
import type { Bindings, Kernel, Params, Values } from "../kernel.ts";
import { Pool } from "../pool.ts";
import { describeAdapter, findAdapter, requestDevice } from "./adapter.ts";
import { benchOn } from "./bench_on.ts";
import { Commands, refused } from "./commands.ts";
import { Health } from "./health.ts";
import { Leftovers } from "./leftovers.ts";
import type { Block, GpuMemory } from "./memory.ts";
import { ParamsTable } from "./params.ts";
import { PARAMS_BYTES } from "./program.ts";
import { Programs } from "./programs.ts";
import { Readback } from "./readback.ts";
import { subgroupHeader } from "./subgroups.ts";
import { type TimedCall, TIMESTAMPS, Timings } from "./timings.ts";
import { Tuner, type TuningOptions } from "./tuner.ts";

/** Options of {@linkcode webgpuDevice}. */
export interface WebGpuOptions {
  /** Largest sum of allocations in bytes. Default: no limit but the driver's. */
  readonly memory?: number;
  /** Lets {@linkcode WebGpuDevice.timed} measure with the device's own clock, where the adapter has one. Default false. */
  readonly timings?: boolean;
  /**
   * Measures which variants of a kernel are best here, after first use, while {@linkcode WebGpuDevice.read} waits anyway; not
   * in a read for which programs had to be compiled, so that the first result of all does not wait for it.
   * Default: kernels' own preferences count.
   */
  readonly tuning?: TuningOptions;
}

/** Opens the adapter that the platform prefers. Throws {@linkcode NoAdapterError} where there is none. */
export async function webgpuDevice(options: WebGpuOptions = {}): Promise<WebGpuDevice> {
  const adapter = await findAdapter();
  const device = await requestDevice(adapter, options.timings === true);
  const header = await subgroupHeader(device);
  const info = describeAdapter(adapter, device, header !== undefined);
  const runtime = globalThis.navigator?.userAgent ?? "";
  const tuner = options.tuning && new Tuner(info, runtime, options.tuning);
  return new WebGpuDevice(device, info, options.memory ?? Infinity, header ?? "", tuner);
}

/** A {@linkcode Device} over WebGPU. Make one with {@linkcode webgpuDevice}. */
export class WebGpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly #device: GPUDevice;
  readonly #health = new Health();
  readonly #pool: Pool<Block>;
  readonly #readback: Readback;
  readonly #params: ParamsTable;
  readonly #programs: Programs;
  readonly #commands: Commands;
  readonly #timings: Timings | undefined;
  readonly #tuner: Tuner | undefined;
  #blocks = 0;
  #tuning = false;

  /** `header` begins programs that speak of subgroups. */
  constructor(device: GPUDevice, info: DeviceInfo, memory: number, header: string, tuner?: Tuner) {
    this.#tuner = tuner;
    this.#device = device;
    this.info = info;
    this.#readback = new Readback(device);
    this.#pool = new Pool(
      {
        make: (bytes) => this.#makeBlock(bytes),
        destroy: ({ buffer }) => buffer.destroy(),
        beforeDestroy: () => {
          this.#commands.submit();
          this.#programs.forgetGroups();
        },
      },
      info.maxAllocation - info.maxAllocation % (ALIGNMENT * 4),
      memory,
    );
    device.lost.then(({ message }) => {
      this.#health.fail(
        new DeviceLostError(`The WebGPU device was lost: ${message || "no reason given"}; open a new one`),
      );
    });
    device.addEventListener("uncapturederror", (event) => {
      // Where nobody listens the platform prints it; here the next call throws it.
      event.preventDefault();
      this.#health.fail(refused((event as GPUUncapturedErrorEvent).error));
    });
    const health = this.#health, leftovers = new Leftovers(), params = this.#params = new ParamsTable(device);
    this.#programs = new Programs({ device, info, header, params, health, leftovers });
    if (device.features.has(TIMESTAMPS)) this.#timings = new Timings(device);
    this.#readback.probe();
    this.#commands = new Commands(device, health, leftovers);
  }

  /** Whether reading back skips the runtime's slow way of waiting. */
  get fastReads(): boolean {
    return this.#readback.unawaited;
  }

  allocate(words: number, label: string): View {
    this.#health.check();
    const block = this.#pool.acquire(Math.max(words, ALIGNMENT) * 4, label);
    const memory: GpuMemory = { words, label, owner: this, released: false, block };
    return { memory, offset: 0, length: words };
  }

  release(view: View): void {
    this.#health.check();
    checkView(view, this, "release");
    const memory = view.memory as GpuMemory;
    memory.released = true;
    this.#pool.release(memory.block);
  }

  write(view: View, data: Words): void {
    this.#health.check();
    checkView(view, this, "write");
    checkWrite(view, data);
    if (data.length === 0) return;
    const { block } = view.memory as GpuMemory;
    // A write overtakes what is only recorded, so recorded commands that use the block go first.
    if (block.usedBy === this.#commands.submission) this.#commands.submit();
    this.#device.queue.writeBuffer(block.buffer, view.offset * 4, data);
    this.#commands.wrote(data.byteLength);
  }

  clear(view: View): void {
    this.#health.check();
    checkView(view, this, "clear");
    if (view.length === 0) return;
    this.#commands.copying().clearBuffer(this.#used(view), view.offset * 4, view.length * 4);
  }

  copy(from: View, to: View): void {
    this.#health.check();
    checkView(from, this, "copy");
    checkView(to, this, "copy");
    checkCopy(from, to);
    if (from.length === 0) return;
    const source = from.memory as GpuMemory;
    const target = to.memory as GpuMemory;
    if (source === target) {
      throw new DeviceError(`Cannot copy inside ${source.label}: WebGPU copies between allocations only`);
    }
    this.#commands.copying().copyBufferToBuffer(
      this.#used(from),
      from.offset * 4,
      this.#used(to),
      to.offset * 4,
      from.length * 4,
    );
  }

  /** As {@linkcode Device.run}; `variantName` overrules the kernel's choice, for tests, benches and tuners. */
  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
    variantName?: string,
  ): void {
    this.#health.check();
    const plain = kernel as unknown as Kernel;
    const ordered = checkCall(plain, views, values, this, this.info.maxBinding);
    const prepared = this.#programs.prepare(plain);
    const slot = prepared.hasParams ? this.#params.slot(plain, values, this.#forgetSlots) : 0;
    let call = variantName === undefined ? prepared.calls.get(slot) : undefined;
    if (call === undefined) {
      const name = variantName ?? (this.#tuning ? undefined : this.#tuner?.choice(plain, values));
      call = this.#programs.call(prepared, plain, values, name);
      if (variantName === undefined) prepared.calls.set(slot, call);
    }
    const { pipeline, grid } = call;
    if (pipeline === undefined) return;
    for (const view of ordered) this.#used(view);
    this.#commands.dispatch({
      pipeline,
      group: this.#programs.group(prepared, plain, ordered),
      params: prepared.hasParams ? slot * PARAMS_BYTES : undefined,
      grid,
    }, this.#timings?.running ? this.#timings.next(plain, values) : undefined);
  }

  /** The variant that measuring finds best for a call, whatever time that takes. Throws where the kernel has no tuning. */
  async tuned<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    values: Values<P>,
  ): Promise<string> {
    const plain = kernel as unknown as Kernel;
    if (plain.tuning === undefined) throw new DeviceError(`Kernel ${kernel.name} has nothing to tune`);
    const tuner = new Tuner(this.info, "", {});
    this.#tuning = true;
    try {
      const size = await tuner.measure(plain, values, benchOn(this));
      if (size === undefined) {
        throw new OutOfMemoryError(`Cannot tune ${kernel.name}: no memory for its sample`);
      }
      return plain.tuning.variant(size, values)!;
    } finally {
      this.#tuning = false;
    }
  }

  /** One class of calls is measured; calls choose anew. */
  async #tune(tuner: Tuner): Promise<void> {
    this.#tuning = true;
    try {
      if (await tuner.measureNext(benchOn(this))) this.#programs.forgetCalls();
    } finally {
      this.#tuning = false;
      this.#programs.askFresh(); // its own
    }
  }

  /**
   * The times of all dispatches of `work` by the device's own clock; undefined where the device was opened without
   * `timings` or its adapter has no such clock. Then `work` has run as well.
   */
  async timed(work: () => Promise<void>): Promise<TimedCall[] | undefined> {
    this.#health.check();
    if (this.#timings === undefined) {
      await work();
      return undefined;
    }
    this.#commands.copying(); // what came before has passes of its own
    this.#timings.running = true;
    try {
      await work();
      this.#commands.submit();
    } finally {
      this.#timings.running = false;
    }
    return await this.#timings.take();
  }

  async read(views: readonly View[]): Promise<ArrayBuffer[]> {
    const all = await this.readJoined(views);
    if (views.length === 1) return [all];
    let start = 0;
    return views.map((view) => all.slice(start, start += view.length * 4));
  }

  async readJoined(views: readonly View[]): Promise<ArrayBuffer> {
    this.#health.check();
    let bytes = 0;
    for (const view of views) {
      checkView(view, this, "read");
      bytes += view.length * 4;
    }
    if (bytes === 0) {
      this.#commands.submit();
      this.#commands.ask();
      await this.#health.settle();
      return new ArrayBuffer(0);
    }
    if (bytes > this.info.maxAllocation) {
      throw new RangeError(
        `Cannot read ${bytes} bytes at once: the device's largest buffer has ${this.info.maxAllocation}`,
      );
    }
    const staging = this.#readback.take(bytes);
    const encoder = this.#commands.copying();
    let offset = 0;
    for (const view of views) {
      if (view.length > 0) {
        encoder.copyBufferToBuffer(this.#used(view), view.offset * 4, staging, offset, view.length * 4);
      }
      offset += view.length * 4;
    }
    this.#commands.submit();
    this.#commands.ask();
    let all: ArrayBuffer;
    try {
      all = await this.#readback.map(staging, bytes);
    } catch (cause) {
      await this.#health.settle();
      throw this.#health.reason ?? new DeviceError(`Cannot read back ${bytes} bytes`, { cause });
    }
    await this.#health.settle();
    // While programs are still being compiled somebody waits for the first result of all.
    const fresh = !this.#tuning && this.#programs.askFresh();
    if (this.#tuner?.wanting && !this.#tuning && !this.#timings?.running && !fresh) {
      await this.#tune(this.#tuner);
    }
    return all;
  }

  flush(): void {
    this.#health.check();
    this.#commands.submit();
  }

  memory(): { held: number; used: number; peak: number } {
    return this.#pool.accounts;
  }

  trim(): void {
    this.#health.check();
    this.#pool.trim();
  }

  close(): void {
    if (this.#health.closed) return;
    if (this.#health.reason === undefined) this.#commands.submit();
    this.#health.close(new DeviceLostError("The device has been closed; open a new one"));
    this.#programs.forgetGroups();
    this.#readback.close();
    this.#pool.close();
    this.#params.close();
    this.#timings?.close();
    this.#device.destroy();
  }

  #makeBlock(bytes: number): Block {
    this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({
      size: bytes,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    this.#health.watch(
      this.#device.popErrorScope().then((problem) =>
        problem === null ? undefined : this.#pool.outOfMemory(bytes, "a buffer", problem.message)
      ),
    );
    return { id: this.#blocks++, buffer, usedBy: -1 };
  }

  /** The buffer of a view that a recorded command is going to use. */
  #used(view: View): GPUBuffer {
    const { block } = view.memory as GpuMemory;
    block.usedBy = this.#commands.submission;
    return block.buffer;
  }

  /** Slots of parameters are about to change: work that reads them must be on its way, and what is kept by slot go. */
  readonly #forgetSlots = (): void => {
    this.#commands.submit();
    this.#programs.forgetCalls();
  };
}
