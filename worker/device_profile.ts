/**
 * How fast a device is, measured in a moment when a worker joins.
 *
 * @module
 */
import { add, type Device, matmulNT, type View } from "../kernels/mod.ts";

/** Rows, columns and depth of the measured matrix product. */
const SIZE = 512;

/** Words that are copied: beyond the caches of common processors. */
const COPIED = 1 << 22;

/** Milliseconds that one measurement takes at least, so that starting and reading do not matter. */
const ENOUGH = 20;

/** Words of a call that is nothing but a call. */
const LITTLE = 64;

/** Words of a result: a small model's activation. */
const RESULT = 1 << 13;

/** Operations and bytes a second, seconds of a call beside both, and of bringing a result to the host. */
export interface Speed {
  readonly flops: number;
  /** Reading and writing counted both. */
  readonly bandwidth: number;
  readonly launch: number;
  readonly read: number;
}

/** Measures the device; `now` gives milliseconds. */
export async function measureDevice(device: Device, now: () => number): Promise<Speed> {
  const square = SIZE * SIZE;
  const views = [square, square, square, COPIED, COPIED, LITTLE, LITTLE, RESULT].map((words) =>
    device.allocate(words, "measurement")
  );
  try {
    const [a, b, c, from, to, x, y, result] = views;
    for (const view of views) device.clear(view);
    const multiply = () => device.run(matmulNT, { a, b, c }, { m: SIZE, n: SIZE, k: SIZE, accumulate: 0 });
    const product = await perCall(device, now, c, multiply);
    const copy = await perCall(device, now, to, () => device.copy(from, to));
    const launch = await perCall(device, now, y, () => device.run(add, { x, y }, { length: LITTLE }));
    const read = await repeated(now, async (times) => {
      for (let i = 0; i < times; i++) await device.read([result]);
    });
    return { flops: 2 * SIZE ** 3 / product, bandwidth: 2 * 4 * COPIED / copy, launch, read };
  } finally {
    for (const view of views) device.release(view);
    device.trim();
  }
}

/** Seconds of one call. */
function perCall(device: Device, now: () => number, result: View, call: () => void): Promise<number> {
  const one = { memory: result.memory, offset: result.offset, length: 1 };
  return repeated(now, async (calls) => {
    for (let i = 0; i < calls; i++) call();
    await device.read([one]);
  });
}

/** Seconds of one time of what `work` does several times. */
async function repeated(now: () => number, work: (times: number) => Promise<void>): Promise<number> {
  const timed = async (times: number) => {
    const start = now();
    await work(times);
    return now() - start;
  };
  await timed(1); // compiles
  for (let calls = 1;; calls *= 2) {
    const elapsed = await timed(calls);
    // A clock that stands still (a simulation's) must not keep us here.
    if (elapsed < ENOUGH && calls < 1024) continue;
    // Whatever else ran on the machine can only have made it longer, and what is kept of it outlives that moment.
    const again = elapsed < ENOUGH ? elapsed : await timed(calls);
    return Math.max(Math.min(elapsed, again), 1e-3) / calls / 1000;
  }
}
