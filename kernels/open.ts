/**
 * Choosing a device.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { NoAdapterError } from "./errors.ts";
import { referenceDevice } from "./reference/device.ts";
import type { TuningOptions } from "./webgpu/tuner.ts";
import { webgpuDevice } from "./webgpu/device.ts";

/** Options of {@linkcode openDevice}. */
export interface OpenOptions {
  /** "auto" (the default) takes WebGPU where there is an adapter and plain arrays otherwise; `device.info` tells which. */
  readonly kind?: "webgpu" | "reference" | "auto";
  /** Largest sum of allocations in bytes. Default: what the machine gives. */
  readonly memory?: number;
  /** On WebGPU: measure which programs are best here, on first use. Default: do not. */
  readonly tuning?: TuningOptions;
}

/** Opens a device. Throws {@linkcode NoAdapterError} where "webgpu" was asked for and there is no adapter. */
export async function openDevice({ kind = "auto", memory, tuning }: OpenOptions = {}): Promise<Device> {
  if (kind === "reference") return referenceDevice({ memory });
  try {
    return await webgpuDevice({ memory, tuning });
  } catch (error) {
    if (kind === "webgpu" || !(error instanceof NoAdapterError)) throw error;
    return referenceDevice({ memory });
  }
}
