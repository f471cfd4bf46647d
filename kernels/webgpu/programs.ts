/**
 * What is made once and used for every call: pipelines, bind groups, and what a call with certain parameters becomes.
 *
 * @module
 */
import type { View } from "../device.ts";
import type { DeviceInfo } from "../device_info.ts";
import type { Kernel, Params, Values, Variant } from "../kernel.ts";
import { chooseVariant, foldGrid } from "./call.ts";
import type { Health } from "./health.ts";
import type { Leftovers } from "./leftovers.ts";
import { type GpuMemory } from "./memory.ts";
import type { ParamsTable } from "./params.ts";
import { bindGroupLayout, compile } from "./program.ts";
import { RecentMap } from "./recent.ts";

/**
 * Bind groups kept (twice that at the most): what a step of a model of some depth uses. Each holds kilobytes in the driver,
 * and an evicted one is freed only when the garbage collector comes by.
 */
const BIND_GROUPS = 1024;

/** What is kept of a kernel that has run. */
export interface Prepared {
  readonly id: number;
  readonly layout: GPUBindGroupLayout;
  readonly hasParams: boolean;
  readonly pipelines: Map<string, GPUComputePipeline>;
  /** What a call with the parameters of a slot becomes. */
  readonly calls: Map<number, Call>;
}

/** A call without its views; no pipeline where there is nothing to do. */
export interface Call {
  readonly pipeline: GPUComputePipeline | undefined;
  readonly grid: readonly [number, number, number];
}

/** What {@linkcode Programs} works with. */
export interface ProgramParts {
  readonly device: GPUDevice;
  readonly info: DeviceInfo;
  /** What begins programs that speak of subgroups. */
  readonly header: string;
  readonly params: ParamsTable;
  readonly health: Health;
  readonly leftovers: Leftovers;
}

/** Everything that is kept of the kernels of one device. */
export class Programs {
  readonly #parts: ProgramParts;
  readonly #kernels = new Map<Kernel, Prepared>();
  readonly #groups = new RecentMap<GPUBindGroup>(BIND_GROUPS);
  readonly #mostWorkgroups: number;
  #fresh = false;

  constructor(parts: ProgramParts) {
    this.#parts = parts;
    this.#mostWorkgroups = parts.device.limits.maxComputeWorkgroupsPerDimension;
  }

  prepare(kernel: Kernel): Prepared {
    let prepared = this.#kernels.get(kernel);
    if (prepared === undefined) {
      prepared = {
        id: this.#kernels.size,
        layout: bindGroupLayout(this.#parts.device, kernel),
        hasParams: Object.keys(kernel.params).length > 0,
        pipelines: new Map(),
        calls: new Map(),
      };
      this.#kernels.set(kernel, prepared);
    }
    return prepared;
  }

  /** A call in the variant of that name, or in the kernel's own choice. */
  call(prepared: Prepared, kernel: Kernel, values: Values<Params>, name: string | undefined): Call {
    const variant = chooseVariant(kernel, values, this.#parts.info, name);
    const grid = foldGrid(variant.grid(values), this.#mostWorkgroups, kernel.name);
    return { pipeline: grid.includes(0) ? undefined : this.#pipeline(prepared, kernel, variant), grid };
  }

  #pipeline(prepared: Prepared, kernel: Kernel, variant: Variant<Params>): GPUComputePipeline {
    let pipeline = prepared.pipelines.get(variant.name);
    if (pipeline === undefined) {
      const { device, header, health } = this.#parts;
      const compiled = compile(device, prepared.layout, kernel, variant, header);
      health.watch(compiled.error);
      pipeline = compiled.pipeline;
      prepared.pipelines.set(variant.name, pipeline);
      this.#fresh = true;
    }
    return pipeline;
  }

  /** Whether programs were compiled since the last question. */
  askFresh(): boolean {
    const fresh = this.#fresh;
    this.#fresh = false;
    return fresh;
  }

  /** Calls choose their variants anew. */
  forgetCalls(): void {
    for (const { calls } of this.#kernels.values()) calls.clear();
  }

  /** The bind group of these views, in order of the kernel's bindings. */
  group(prepared: Prepared, kernel: Kernel, views: readonly View[]): GPUBindGroup {
    let key = `${prepared.id}`;
    for (const { memory, offset, length } of views) {
      key += `,${(memory as GpuMemory).block.id},${offset},${length}`;
    }
    let group = this.#groups.get(key);
    if (group === undefined) {
      const { device, params, leftovers } = this.#parts;
      const entries: GPUBindGroupEntry[] = views.map((view, binding) => {
        const { buffer } = (view.memory as GpuMemory).block;
        // WebGPU has no empty bindings: an empty view, which no program reads, becomes some words of its memory.
        const resource = view.length === 0
          ? { buffer, offset: 0, size: 16 }
          : { buffer, offset: view.offset * 4, size: view.length * 4 };
        return { binding, resource };
      });
      if (prepared.hasParams) entries.push({ binding: entries.length, resource: params.resource });
      group = device.createBindGroup({ label: kernel.name, layout: prepared.layout, entries });
      this.#groups.set(key, group);
      leftovers.add();
    }
    return group;
  }

  /** Blocks of memory are about to go, and with them the bind groups that name them. */
  forgetGroups(): void {
    this.#groups.clear();
  }
}
