/**
 * How close does each kernel come to what the adapter can do? Operations and bytes a second, beside the adapter's own limits
 * measured in the same run; then every product that the device chose by tuning beside the best variant of a full sweep.
 * Wanted: the choice has at least 0.95 of the best one's speed.
 *
 * @module
 */
import { type Device, openDevice, part, type View, WebGpuDevice } from "../../kernels/mod.ts";
import type { BenchOptions, Output } from "../harness/bench.ts";
import { oneThread } from "../harness/adapter.ts";
import { type KernelCase, kernelCases } from "./kernel_cases.ts";
import { type Limits, limits, time } from "./limits.ts";
import { LEAST_SHARE, sweep } from "./sweep.ts";

/** One line for the list of benches. */
export const title = "every kernel's speed, as a share of the measured limits of arithmetic and memory";

/** What one call reached. */
export interface KernelSpeed {
  readonly kernel: string;
  readonly shape: string;
  readonly device: string;
  /** Median, in milliseconds. */
  readonly milliseconds: number;
  readonly gflops: number;
  readonly gigabytes: number;
  /** The larger of its shares of the arithmetic and of the memory limit, 0 to 1. */
  readonly share: number;
  readonly limit: "arithmetic" | "memory";
}

/** Numbers around zero, the same in every run. */
function noise(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 0.5);
}

async function measure(
  device: Device,
  { kernel, shape, values, words }: KernelCase,
  limit: Limits,
): Promise<KernelSpeed> {
  const views: Record<string, View> = {};
  for (const [name, content] of Object.entries(words)) {
    const data = typeof content === "number"
      ? kernel.bindings[name].startsWith("u32") ? new Uint32Array(content) : noise(content)
      : content;
    views[name] = device.allocate(data.length, name);
    device.write(views[name], data);
  }
  const word = part(Object.values(views)[0], 0, 1);
  const milliseconds = await time(device, () => device.run(kernel, views, values), word);
  for (const view of Object.values(views)) device.release(view);
  const { flops, bytes } = kernel.cost(values);
  const gflops = flops / milliseconds / 1e6, gigabytes = bytes / milliseconds / 1e6;
  const arithmetic = gflops / limit.gflops, memory = gigabytes / limit.gigabytes;
  return {
    kernel: kernel.name,
    shape,
    device: device.info.name,
    milliseconds,
    gflops,
    gigabytes,
    share: Math.max(arithmetic, memory),
    limit: arithmetic >= memory ? "arithmetic" : "memory",
  };
}

/**
 * Measures every kernel on the WebGPU device, or on plain arrays where there is no adapter, and prints what it finds; then
 * how good the device's own choice of matrix products is. False where one of them falls short of the best variant.
 */
export async function run({ record, print }: BenchOptions): Promise<boolean> {
  oneThread();
  const device = await openDevice();
  try {
    const limit = await limits(device);
    record({ device: device.info, limit });
    print(
      `${device.info.name}: ${limit.gflops.toFixed(1)} GFLOPS, ${limit.gigabytes.toFixed(1)} GB/s`,
      row("kernel", "shape", "ms", "GFLOPS", "GB/s", "share of limit"),
    );
    for (const entry of kernelCases()) {
      const speed = await measure(device, entry, limit);
      record(speed);
      const { kernel, shape, milliseconds, gflops, gigabytes, share, limit: bound } = speed;
      const percent = `${(share * 100).toFixed(0).padStart(3)} % ${bound}`;
      print(row(kernel, shape, milliseconds.toFixed(3), gflops.toFixed(2), gigabytes.toFixed(2), percent));
    }
    return !(device instanceof WebGpuDevice) || await choices(device, limit, { record, print });
  } finally {
    device.close();
  }
}

/** The sweep over variants of matrix products. */
async function choices(
  device: WebGpuDevice,
  limit: Limits,
  { record, print }: Output,
): Promise<boolean> {
  const found = await sweep(device);
  print(
    "\ntuned choice, and the best variant of a full sweep",
    row("kernel", "shape", "GFLOPS", "best", "of best", "of limit", "tuned in"),
  );
  for (const choice of found) {
    record(choice);
    const { kernel, shape, chosen, gflops, bestGflops, share, tuningMs } = choice;
    print(row(
      kernel,
      shape,
      gflops.toFixed(1),
      bestGflops.toFixed(1),
      share.toFixed(2),
      (gflops / limit.gflops).toFixed(2),
      `${tuningMs.toFixed(0)} ms`,
      chosen,
    ));
  }
  return found.every(({ share }) => share >= LEAST_SHARE);
}

function row(kernel: string, shape: string, ...rest: string[]): string {
  return `${kernel.padEnd(20)} ${shape.padEnd(20)} ${rest.map((text) => text.padStart(9)).join(" ")}`;
}
