/**
 * How close each kernel comes to what the adapter can do: operations and bytes a second, beside the adapter's own limits
 * measured in the same run.
 *
 * @module
 */
import { defineKernel, type Device, openDevice, part, type View } from "../kernels/mod.ts";
import { type KernelCase, kernelCases } from "./kernel_cases.ts";

/** One line for the list of benches. */
export const title = "every kernel's speed, as a share of the measured limits of arithmetic and memory";

/** Options of every bench. */
export interface BenchOptions {
  /** One JSON object a line on stdout instead of a table. */
  readonly json: boolean;
}

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

/** Timings of a call; the median counts. */
const ROUNDS = 7;

/** A timing takes as many calls as fill this many milliseconds: enough to hide the wait for the result. */
const ROUND_MILLISECONDS = 20;

/** Accumulators of the arithmetic limit's program: enough to fill the pipelines, few enough to stay in registers. */
const CHAINS = 3;
const STEPS = 16;
const LANES = 64 * 64;

const multiplyAdd = defineKernel({
  name: "bench multiply and add",
  bindings: { y: "vec4f write" },
  params: { rounds: "u32" },
  wgsl: `@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = vec4f(0.999);
  let shift = vec4f(f32(id.x) * 1e-3);
${numbered(CHAINS, (i) => `  var s${i} = vec4f(${i}.0);`)}
  for (var round = 0u; round < params.rounds; round += 1u) {
${numbered(STEPS, () => numbered(CHAINS, (i) => `    s${i} = s${i} * x + shift;`))}
  }
  y[id.x] = ${Array.from({ length: CHAINS }, (_, i) => `s${i}`).join(" + ")};
}`,
  grid: () => LANES / 64,
  cost: ({ rounds }) => ({ flops: 2 * 4 * CHAINS * STEPS * LANES * rounds, bytes: 16 * LANES }),
  reference({ y }, { rounds }) {
    const { fround } = Math;
    for (let i = 0; i < y.length; i++) {
      let sum = fround(i);
      for (let step = 0; step < rounds * STEPS * CHAINS; step++) sum = fround(fround(sum * 0.999) + 1e-3);
      y[i] = sum;
    }
  },
});

function numbered(count: number, line: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => line(i)).join("\n");
}

/** Median milliseconds of one of the calls that `call` gives; `word` is something small to wait for. */
async function time(device: Device, call: () => void, word: View): Promise<number> {
  const turn = async (calls: number) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call();
    await device.read([word]);
    return (performance.now() - start) / calls;
  };
  await turn(1);
  const calls = Math.min(1000, Math.ceil(ROUND_MILLISECONDS / await turn(2)));
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) times.push(await turn(calls));
  return times.sort((a, b) => a - b)[ROUNDS >> 1];
}

/** GFLOPS of multiplications and additions in registers, GB/s of copying one large buffer to another. */
async function limits(device: Device): Promise<{ gflops: number; gigabytes: number }> {
  const rounds = device.info.kind === "reference" ? 1 : 500;
  const y = device.allocate(LANES * 4, "sums");
  const { flops } = multiplyAdd.cost({ rounds });
  const gflops = flops / await time(device, () => device.run(multiplyAdd, { y }, { rounds }), part(y, 0, 1)) /
    1e6;
  device.release(y);
  const words = 2 ** 24;
  const from = device.allocate(words, "from"), to = device.allocate(words, "to");
  const gigabytes = 8 * words / await time(device, () => device.copy(from, to), part(to, 0, 1)) / 1e6;
  device.release(from);
  device.release(to);
  return { gflops, gigabytes };
}

/** Numbers around zero, the same in every run. */
function noise(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 0.5);
}

async function measure(
  device: Device,
  { kernel, shape, values, words }: KernelCase,
  limit: { gflops: number; gigabytes: number },
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

/** Measures every kernel on the WebGPU device, or on plain arrays where there is no adapter, and prints what it finds. */
export async function run({ json }: BenchOptions): Promise<KernelSpeed[]> {
  const device = await openDevice();
  const speeds: KernelSpeed[] = [];
  try {
    const limit = await limits(device);
    if (json) console.log(JSON.stringify({ device: device.info, limit }));
    else {
      console.log(
        `${device.info.name}: ${limit.gflops.toFixed(1)} GFLOPS, ${limit.gigabytes.toFixed(1)} GB/s`,
      );
      console.log(row("kernel", "shape", "ms", "GFLOPS", "GB/s", "share of limit"));
    }
    for (const entry of kernelCases()) {
      const speed = await measure(device, entry, limit);
      speeds.push(speed);
      if (json) console.log(JSON.stringify(speed));
      else {
        const { kernel, shape, milliseconds, gflops, gigabytes, share, limit } = speed;
        const percent = `${(share * 100).toFixed(0).padStart(3)} % ${limit}`;
        console.log(
          row(kernel, shape, milliseconds.toFixed(3), gflops.toFixed(2), gigabytes.toFixed(2), percent),
        );
      }
    }
  } finally {
    device.close();
  }
  return speeds;
}

function row(kernel: string, shape: string, ...rest: string[]): string {
  return `${kernel.padEnd(20)} ${shape.padEnd(20)} ${rest.map((text) => text.padStart(9)).join(" ")}`;
}
