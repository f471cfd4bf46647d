/**
 * How fast a device is, measured in a moment when a worker joins.
 *
 * @module
 */
import { type Device, matmulNT, type View } from "../kernels/mod.ts";

/** Rows, columns and depth of the measured matrix product. */
const SIZE = 512;

/** Words that are copied: beyond the caches of common processors. */
const COPIED = 1 << 22;

/** Milliseconds that one measurement takes at least, so that starting and reading do not matter. */
const ENOUGH = 20;

/** Operations and bytes a second. */
export interface Speed {
  readonly flops: number;
  /** Reading and writing counted both. */
  readonly bandwidth: number;
}

/** Measures the device; `now` gives milliseconds. */
export async function measureDevice(device: Device, now: () => number): Promise<Speed> {
  const square = SIZE * SIZE;
  const views = [square, square, square, COPIED, COPIED].map((words) =>
    device.allocate(words, "measurement")
  );
  try {
    const [a, b, c, from, to] = views;
    for (const view of views) device.clear(view);
    const multiply = () => device.run(matmulNT, { a, b, c }, { m: SIZE, n: SIZE, k: SIZE, accumulate: 0 });
    const product = await perCall(device, now, c, multiply);
    const copy = await perCall(device, now, to, () => device.copy(from, to));
    return { flops: 2 * SIZE ** 3 / product, bandwidth: 2 * 4 * COPIED / copy };
  } finally {
    for (const view of views) device.release(view);
    device.trim();
  }
}

/** Seconds of one call. */
async function perCall(device: Device, now: () => number, result: View, call: () => void): Promise<number> {
  const one = { memory: result.memory, offset: result.offset, length: 1 };
  const timed = async (calls: number) => {
    const start = now();
    for (let i = 0; i < calls; i++) call();
    await device.read([one]);
    return now() - start;
  };
  await timed(1); // compiles
  for (let calls = 1;; calls *= 2) {
    const elapsed = await timed(calls);
    // A clock that stands still (a simulation's) must not keep us here.
    if (elapsed >= ENOUGH || calls >= 1024) return Math.max(elapsed, 1e-3) / calls / 1000;
  }
}
