/**
 * What a device can do at the most, measured: the yardstick of the benches about kernels.
 *
 * @module
 */
import { defineKernel, type Device, part, type View } from "../../kernels/mod.ts";
import { median } from "../harness/statistics.ts";

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
export async function time(device: Device, call: () => void, word: View): Promise<number> {
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
  return median(times);
}

/** What a device can do at the most. */
export interface Limits {
  /** 10^9 multiplications and additions a second, each counted. */
  readonly gflops: number;
  /** 10^9 bytes read or written a second. */
  readonly gigabytes: number;
}

/** GFLOPS of multiplications and additions in registers, GB/s of copying one large buffer to another. */
export async function limits(device: Device): Promise<Limits> {
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
