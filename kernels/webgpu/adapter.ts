/**
 * Finding an adapter and asking it for all that it can do.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import { NoAdapterError } from "../errors.ts";
import { fixedSize, withSubgroups } from "./subgroups.ts";
import { TIMESTAMPS } from "./timings.ts";

/** Limits that default to small values and are therefore asked for by name. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** How adapters that compute on the CPU call themselves, where they don't say so in a flag. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|software|basic render/i;

/** Raises {@linkcode NoAdapterError} with what to do about it. */
function noAdapter(why: string): NoAdapterError {
  return new NoAdapterError(
    `No WebGPU adapter: ${why}. Install a Vulkan driver (on Debian a software one comes with ` +
      "`apt-get install -y mesa-vulkan-drivers`), or choose the reference device, which needs none and is slower.",
  );
}

/** The adapter, or a {@linkcode NoAdapterError}. */
export async function findAdapter(): Promise<GPUAdapter> {
  const gpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (gpu === undefined) throw noAdapter("this runtime has no navigator.gpu");
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (cause) {
    throw noAdapter(cause instanceof Error ? cause.message : String(cause));
  }
  if (adapter === null) throw noAdapter("the driver offers none");
  return adapter;
}

/** A device with the adapter's own limits, subgroups where they can be had, and timestamps where they are wanted and offered. */
export async function requestDevice(adapter: GPUAdapter, timings: boolean): Promise<GPUDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
  try {
    const clock: GPUFeatureName[] = timings && adapter.features.has(TIMESTAMPS) ? [TIMESTAMPS] : [];
    return await withSubgroups(
      adapter,
      (features) => adapter.requestDevice({ requiredLimits, requiredFeatures: [...clock, ...features] }),
    );
  } catch (cause) {
    throw noAdapter(`the adapter refused a device (${cause instanceof Error ? cause.message : cause})`);
  }
}

/** What the adapter says about itself; `subgroups` tells whether programs may speak of them. */
export function describeAdapter(adapter: GPUAdapter, device: GPUDevice, subgroups: boolean): DeviceInfo {
  const { vendor, architecture, description, device: model } = adapter.info;
  const name = description || [vendor, architecture, model].filter((word) => word).join(" ") || "WebGPU";
  const fallback = (adapter.info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
  return {
    kind: "webgpu",
    name,
    vendor,
    architecture,
    software: fallback || SOFTWARE.test(`${name} ${architecture}`),
    subgroup: subgroups ? fixedSize(adapter) : 0,
    maxBinding: device.limits.maxStorageBufferBindingSize,
    maxAllocation: device.limits.maxBufferSize,
  };
}
