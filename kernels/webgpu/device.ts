/**
 * The WebGPU device: commands are recorded lazily into few passes and submitted together.
 *
 * @module
 */
import { checkCall, checkCopy, checkView, checkWrite, type OwnedMemory } from "../arguments.ts";
import { ALIGNMENT, type Device, type DeviceInfo, type View, type Words } from "../device.ts";
import { DeviceError, DeviceLostError, OutOfMemoryError } from "../errors.ts";
import type { Bindings, Kernel, Params, Values, Variant } from "../kernel.ts";
import { Pool } from "../pool.ts";
import { describeAdapter, findAdapter, requestDevice } from "./adapter.ts";
import { chooseVariant, foldGrid } from "./call.ts";
import { Leftovers } from "./leftovers.ts";
import { ParamsTable } from "./params.ts";
import { bindGroupLayout, compile, PARAMS_BYTES } from "./program.ts";
import { Readback } from "./readback.ts";
import { RecentMap } from "./recent.ts";
import { subgroupHeader } from "./subgroups.ts";
import { type TimedCall, TIMESTAMPS, Timings } from "./timings.ts";
import { benchOn } from "./bench_on.ts";
import { Tuner, type TuningOptions } from "./tuner.ts";

/**
 * Bind groups kept (twice that at the most): what a step of a model of some depth uses. Each holds kilobytes in the driver,
 * and an evicted one is freed only when the garbage collector comes by.
 */
const BIND_GROUPS = 1024;

/** Dispatches after which recorded work is submitted by itself, so that the device starts while more is recorded. */
const DISPATCHES_PER_SUBMIT = 256;

/** Bytes written after which they are handed to the device: until then the driver holds a copy of each write. */
const WRITTEN_PER_SUBMIT = 16 << 20;

/** Options of {@linkcode webgpuDevice}. */
export interface WebGpuOptions {
  /** Largest sum of allocations in bytes. Default: no limit but the driver's. */
  readonly memory?: number;
  /** Lets {@linkcode WebGpuDevice.timed} measure with the device's own clock, where the adapter has one. Default false. */
  readonly timings?: boolean;
  /**
   * Measures which variants of a kernel are best here, on first use, while {@linkcode WebGpuDevice.read} waits anyway.
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

interface Block {
  readonly id: number;
  readonly buffer: GPUBuffer;
  /** The submission whose commands use it last. */
  usedBy: number;
}

interface GpuMemory extends OwnedMemory {
  readonly block: Block;
}

/** What is kept of a kernel that has run. */
interface Prepared {
  readonly id: number;
  readonly layout: GPUBindGroupLayout;
  readonly hasParams: boolean;
  readonly pipelines: Map<string, GPUComputePipeline>;
  /** What a call with the parameters of a slot becomes; no pipeline where there is nothing to do. */
  readonly calls: Map<number, Call>;
}

interface Call {
  readonly pipeline: GPUComputePipeline | undefined;
  readonly grid: readonly [number, number, number];
}

/** A {@linkcode Device} over WebGPU. Make one with {@linkcode webgpuDevice}. */
export class WebGpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly #device: GPUDevice;
  readonly #header: string;
  readonly #pool: Pool<Block>;
  readonly #readback: Readback;
  readonly #kernels = new Map<Kernel, Prepared>();
  readonly #bindGroups = new RecentMap<GPUBindGroup>(BIND_GROUPS);
  readonly #params: ParamsTable;
  readonly #leftovers = new Leftovers();
  readonly #mostWorkgroups: number;
  /** Checks of the driver that have been asked for and not answered. */
  readonly #checks = new Set<Promise<void>>();
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipelineInPass: GPUComputePipeline | undefined;
  #dispatches = 0;
  /** Bytes written since the last submission. */
  #written = 0;
  /** The number of the submission that is being recorded. */
  #submission = 0;
  #blocks = 0;
  #failure: Error | undefined;
  #closed: DeviceLostError | undefined;
  readonly #timings: Timings | undefined;
  readonly #tuner: Tuner | undefined;
  #tuning = false;

  /** `header` begins programs that speak of subgroups. */
  constructor(device: GPUDevice, info: DeviceInfo, memory: number, header: string, tuner?: Tuner) {
    this.#tuner = tuner;
    this.#device = device;
    this.info = info;
    this.#header = header;
    this.#readback = new Readback(device);
    this.#pool = new Pool(
      {
        make: (bytes) => this.#makeBlock(bytes),
        destroy: ({ buffer }) => buffer.destroy(),
        beforeDestroy: () => {
          this.#submit();
          this.#bindGroups.clear();
        },
      },
      info.maxAllocation - info.maxAllocation % (ALIGNMENT * 4),
      memory,
    );
    device.lost.then(({ message }) => {
      this.#fail(
        new DeviceLostError(`The WebGPU device was lost: ${message || "no reason given"}; open a new one`),
      );
    });
    device.addEventListener("uncapturederror", (event) => {
      // Where nobody listens the platform prints it; here the next call throws it.
      event.preventDefault();
      this.#fail(refused((event as GPUUncapturedErrorEvent).error));
    });
    this.#params = new ParamsTable(device);
    this.#mostWorkgroups = device.limits.maxComputeWorkgroupsPerDimension;
    if (device.features.has(TIMESTAMPS)) this.#timings = new Timings(device);
    this.#readback.probe();
    // Everything between two submissions happens inside one error scope.
    device.pushErrorScope("validation");
  }

  /** Whether reading back skips the runtime's slow way of waiting. */
  get fastReads(): boolean {
    return this.#readback.unawaited;
  }

  allocate(words: number, label: string): View {
    this.#check();
    const block = this.#pool.acquire(Math.max(words, ALIGNMENT) * 4, label);
    const memory: GpuMemory = { words, label, owner: this, released: false, block };
    return { memory, offset: 0, length: words };
  }

  release(view: View): void {
    this.#check();
    checkView(view, this, "release");
    const memory = view.memory as GpuMemory;
    memory.released = true;
    this.#pool.release(memory.block);
  }

  write(view: View, data: Words): void {
    this.#check();
    checkView(view, this, "write");
    checkWrite(view, data);
    if (data.length === 0) return;
    const { block } = view.memory as GpuMemory;
    // A write overtakes what is only recorded, so recorded commands that use the block go first.
    if (block.usedBy === this.#submission) this.#submit();
    this.#device.queue.writeBuffer(block.buffer, view.offset * 4, data);
    this.#written += data.byteLength;
    if (this.#written >= WRITTEN_PER_SUBMIT) {
      this.#copying();
      this.#submit();
    }
  }

  clear(view: View): void {
    this.#check();
    checkView(view, this, "clear");
    if (view.length === 0) return;
    this.#copying().clearBuffer(this.#used(view), view.offset * 4, view.length * 4);
  }

  copy(from: View, to: View): void {
    this.#check();
    checkView(from, this, "copy");
    checkView(to, this, "copy");
    checkCopy(from, to);
    if (from.length === 0) return;
    const source = from.memory as GpuMemory;
    const target = to.memory as GpuMemory;
    if (source === target) {
      throw new DeviceError(`Cannot copy inside ${source.label}: WebGPU copies between allocations only`);
    }
    this.#copying().copyBufferToBuffer(
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
    this.#check();
    const plain = kernel as unknown as Kernel;
    const ordered = checkCall(plain, views, values, this, this.info.maxBinding);
    const prepared = this.#prepare(plain);
    const slot = prepared.hasParams ? this.#params.slot(plain, values, this.#forgetSlots) : 0;
    let call = variantName === undefined ? prepared.calls.get(slot) : undefined;
    if (call === undefined) {
      const name = variantName ?? (this.#tuning ? undefined : this.#tuner?.choice(plain, values));
      const variant = chooseVariant(plain, values, this.info, name);
      const grid = foldGrid(variant.grid(values), this.#mostWorkgroups, plain.name);
      const idle = grid.includes(0);
      call = { pipeline: idle ? undefined : this.#pipeline(prepared, plain, variant), grid };
      if (variantName === undefined) prepared.calls.set(slot, call);
    }
    if (call.pipeline === undefined) return;
    const group = this.#bindGroup(prepared, plain, ordered);
    if (this.#timings?.running) {
      this.#pass = this.#copying().beginComputePass(this.#timings.next(plain, values));
      this.#pipelineInPass = undefined;
    } else if (this.#pass === undefined) {
      this.#pass = (this.#encoder ??= this.#device.createCommandEncoder()).beginComputePass();
      this.#pipelineInPass = undefined;
    }
    if (this.#pipelineInPass !== call.pipeline) this.#pass.setPipeline(this.#pipelineInPass = call.pipeline);
    if (prepared.hasParams) this.#pass.setBindGroup(0, group, [slot * PARAMS_BYTES]);
    else this.#pass.setBindGroup(0, group);
    this.#pass.dispatchWorkgroups(...call.grid);
    if (++this.#dispatches >= DISPATCHES_PER_SUBMIT) this.#submit();
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
      if (await tuner.measureNext(benchOn(this))) {
        for (const { calls } of this.#kernels.values()) calls.clear();
      }
    } finally {
      this.#tuning = false;
    }
  }

  /**
   * The times of all dispatches of `work` by the device's own clock; undefined where the device was opened without
   * `timings` or its adapter has no such clock. Then `work` has run as well.
   */
  async timed(work: () => Promise<void>): Promise<TimedCall[] | undefined> {
    this.#check();
    if (this.#timings === undefined) {
      await work();
      return undefined;
    }
    this.#copying(); // what came before has passes of its own
    this.#timings.running = true;
    try {
      await work();
      this.#submit();
    } finally {
      this.#timings.running = false;
    }
    return await this.#timings.take();
  }

  async read(views: readonly View[]): Promise<ArrayBuffer[]> {
    this.#check();
    let bytes = 0;
    for (const view of views) {
      checkView(view, this, "read");
      bytes += view.length * 4;
    }
    if (bytes === 0) {
      this.#submit();
      await this.#settle();
      return views.map(() => new ArrayBuffer(0));
    }
    if (bytes > this.info.maxAllocation) {
      throw new RangeError(
        `Cannot read ${bytes} bytes at once: the device's largest buffer has ${this.info.maxAllocation}`,
      );
    }
    const staging = this.#readback.take(bytes);
    const encoder = this.#copying();
    let offset = 0;
    for (const view of views) {
      if (view.length > 0) {
        encoder.copyBufferToBuffer(this.#used(view), view.offset * 4, staging, offset, view.length * 4);
      }
      offset += view.length * 4;
    }
    this.#submit();
    let all: ArrayBuffer;
    try {
      all = await this.#readback.map(staging, bytes);
    } catch (cause) {
      await this.#settle();
      throw this.#failure ?? this.#closed ?? new DeviceError(`Cannot read back ${bytes} bytes`, { cause });
    }
    await this.#settle();
    if (this.#tuner?.wanting && !this.#tuning && !this.#timings?.running) await this.#tune(this.#tuner);
    if (views.length === 1) return [all];
    let start = 0;
    return views.map((view) => all.slice(start, start += view.length * 4));
  }

  flush(): void {
    this.#check();
    this.#submit();
  }

  memory(): { held: number; used: number; peak: number } {
    return this.#pool.accounts;
  }

  trim(): void {
    this.#check();
    this.#pool.trim();
  }

  close(): void {
    if (this.#closed !== undefined) return;
    if (this.#failure === undefined) this.#submit();
    this.#closed = new DeviceLostError("The device has been closed; open a new one");
    this.#bindGroups.clear();
    this.#readback.close();
    this.#pool.close();
    this.#params.close();
    this.#timings?.close();
    this.#device.destroy();
  }

  #check(): void {
    const reason = this.#failure ?? this.#closed;
    if (reason !== undefined) throw reason;
  }

  /** Remembers the first thing that went wrong; results after it would mean nothing, so every later call throws it. */
  #fail(error: Error): void {
    if (this.#closed === undefined) this.#failure ??= error;
  }

  /** Keeps a check of the driver until it is answered, and its answer if it is an error. */
  #watch(check: Promise<Error | undefined>): void {
    const watched: Promise<void> = check.then(
      (error) => {
        if (error !== undefined) this.#fail(error);
      },
      // A scope cannot be popped from a lost device; `lost` tells about that.
      () => {},
    ).finally(() => this.#checks.delete(watched));
    this.#checks.add(watched);
  }

  /** Waits for the driver's word on everything submitted, and throws if it refused something. */
  async #settle(): Promise<void> {
    while (this.#checks.size > 0) await Promise.all(this.#checks);
    // What was read before an orderly close is good.
    if (this.#failure !== undefined) throw this.#failure;
  }

  #makeBlock(bytes: number): Block {
    this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({
      size: bytes,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    this.#watch(
      this.#device.popErrorScope().then((problem) =>
        problem === null ? undefined : this.#pool.outOfMemory(bytes, "a buffer", problem.message)
      ),
    );
    return { id: this.#blocks++, buffer, usedBy: -1 };
  }

  /** The buffer of a view that a recorded command is going to use. */
  #used(view: View): GPUBuffer {
    const { block } = view.memory as GpuMemory;
    block.usedBy = this.#submission;
    return block.buffer;
  }

  #copying(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = undefined;
    return this.#encoder ??= this.#device.createCommandEncoder();
  }

  #submit(): void {
    if (this.#encoder === undefined) return;
    const encoder = this.#copying();
    this.#encoder = undefined;
    this.#submission++;
    this.#written = 0;
    this.#dispatches = 0;
    this.#device.queue.submit([encoder.finish()]);
    this.#leftovers.add();
    const earlier = [...this.#checks];
    this.#watch(
      this.#device.popErrorScope().then(async (problem) => {
        if (problem === null) return undefined;
        // A program that was refused makes its dispatches fail as well: let the cause be told first.
        await Promise.all(earlier);
        return refused(problem);
      }),
    );
    this.#device.pushErrorScope("validation");
  }

  /** Slots of parameters are about to change: work that reads them must be on its way, and what is kept by slot go. */
  readonly #forgetSlots = (): void => {
    this.#submit();
    for (const { calls } of this.#kernels.values()) calls.clear();
  };

  #prepare(kernel: Kernel): Prepared {
    let prepared = this.#kernels.get(kernel);
    if (prepared === undefined) {
      prepared = {
        id: this.#kernels.size,
        layout: bindGroupLayout(this.#device, kernel),
        hasParams: Object.keys(kernel.params).length > 0,
        pipelines: new Map(),
        calls: new Map(),
      };
      this.#kernels.set(kernel, prepared);
    }
    return prepared;
  }

  #pipeline(prepared: Prepared, kernel: Kernel, variant: Variant<Params>): GPUComputePipeline {
    let pipeline = prepared.pipelines.get(variant.name);
    if (pipeline === undefined) {
      const compiled = compile(this.#device, prepared.layout, kernel, variant, this.#header);
      this.#watch(compiled.error);
      pipeline = compiled.pipeline;
      prepared.pipelines.set(variant.name, pipeline);
    }
    return pipeline;
  }

  #bindGroup(prepared: Prepared, kernel: Kernel, views: View[]): GPUBindGroup {
    let key = `${prepared.id}`;
    for (const view of views) {
      const { block } = view.memory as GpuMemory;
      block.usedBy = this.#submission;
      key += `,${block.id},${view.offset},${view.length}`;
    }
    let group = this.#bindGroups.get(key);
    if (group === undefined) {
      const entries: GPUBindGroupEntry[] = views.map((view, binding) => {
        const { buffer } = (view.memory as GpuMemory).block;
        // WebGPU has no empty bindings: an empty view, which no program reads, becomes some words of its memory.
        const resource = view.length === 0
          ? { buffer, offset: 0, size: 16 }
          : { buffer, offset: view.offset * 4, size: view.length * 4 };
        return { binding, resource };
      });
      if (prepared.hasParams) {
        entries.push({ binding: entries.length, resource: this.#params.resource });
      }
      group = this.#device.createBindGroup({ label: kernel.name, layout: prepared.layout, entries });
      this.#bindGroups.set(key, group);
      this.#leftovers.add();
    }
    return group;
  }
}

function refused(problem: GPUError): DeviceError {
  return new DeviceError(`WebGPU refused a command: ${problem.message.trim()}`);
}
