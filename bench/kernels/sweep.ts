/**
 * How good a device's own choice of matrix product is: every variant measured, and the chosen one beside the best.
 *
 * @module
 */
import {
  type Kernel,
  matmulNN,
  matmulNT,
  matmulTN,
  part,
  type View,
  type WebGpuDevice,
} from "../../kernels/mod.ts";
import { held } from "./held.ts";

/** Rows, columns and terms of the products. */
const SHAPES = [
  [512, 512, 512],
  [256, 64, 256],
  [1024, 128, 512],
  [1024, 512, 128],
  [128, 1024, 128],
] as const;

/** Share of the best variant's speed that the chosen one must reach. */
export const LEAST_SHARE = 0.95;

/** Timings of each variant, in turns, of which the shortest counts; one takes at least so many milliseconds. */
const ROUNDS = 7, ROUND_MILLISECONDS = 8;

/** Variants so many times slower than the best in one timing are not timed again. */
const FAR = 2;

/** One product in one layout. */
export interface Choice {
  readonly kernel: string;
  readonly shape: string;
  readonly chosen: string;
  readonly best: string;
  /** Milliseconds of tuning, compilation included. */
  readonly tuningMs: number;
  /** GFLOPS of the chosen and of the best variant, and their ratio. */
  readonly gflops: number;
  readonly bestGflops: number;
  readonly share: number;
  /** GFLOPS of all of them. */
  readonly variants: Readonly<Record<string, number>>;
}

/** Tunes each product, then measures each variant that the device can run. */
export async function sweep(device: WebGpuDevice): Promise<Choice[]> {
  const choices: Choice[] = [];
  for (const kernel of [matmulNT, matmulNN, matmulTN]) {
    for (const [m, n, k] of SHAPES) {
      const values = { m, n, k, accumulate: 0 };
      const start = performance.now();
      const chosen = await device.tuned(kernel, values);
      const tuningMs = performance.now() - start;
      const names = (kernel as unknown as Kernel).variants
        .filter(({ fits, subgroup = device.info.subgroup }) =>
          subgroup === device.info.subgroup && fits!(values)
        )
        .map(({ name }) => name);
      const variants = await speeds(device, kernel, values, names);
      const best = names.reduce((a, b) => variants[b] > variants[a] ? b : a);
      choices.push({
        kernel: kernel.name,
        shape: `${m}x${n}x${k}`,
        chosen,
        best,
        tuningMs,
        gflops: variants[chosen],
        bestGflops: variants[best],
        share: variants[chosen] / variants[best],
        variants,
      });
    }
  }
  return choices;
}

/** GFLOPS of variants of a product. */
async function speeds(
  device: WebGpuDevice,
  kernel: typeof matmulNT,
  values: { readonly m: number; readonly n: number; readonly k: number; readonly accumulate: number },
  names: readonly string[],
): Promise<Record<string, number>> {
  const { m, n, k } = values;
  const views: { a: View; b: View; c: View } = {
    a: held(device, m * k, "a"),
    b: held(device, n * k, "b"),
    c: held(device, m * n, "c"),
  };
  const turn = async (name: string, calls: number) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) device.run(kernel, views, values, name);
    await device.read([part(views.c, 0, 1)]);
    return (performance.now() - start) / calls;
  };
  const times: Record<string, number> = {}, calls: Record<string, number> = {};
  for (const name of names) {
    await turn(name, 1);
    times[name] = await turn(name, 1);
    calls[name] = Math.min(1000, Math.ceil(ROUND_MILLISECONDS / times[name]));
  }
  const least = Math.min(...Object.values(times));
  const close = names.filter((name) => times[name] <= FAR * least);
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of close) times[name] = Math.min(times[name], await turn(name, calls[name]));
  }
  for (const view of Object.values(views)) device.release(view);
  return Object.fromEntries(names.map((name) => [name, 2 * m * n * k / times[name] / 1e6]));
}
