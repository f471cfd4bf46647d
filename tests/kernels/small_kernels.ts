/** What tests of devices share: kernels of a line, and that a device refuses everything. */
import { assertRejects, assertThrows } from "@std/assert";
import { defineKernel, type Device } from "../../kernels/mod.ts";

/** Costs nothing. */
export const cost = () => ({ flops: 0, bytes: 0 });

/** y = x * factor + shift, word by word. */
export const scale = defineKernel({
  name: "test scale",
  bindings: { x: "f32 read", y: "f32 write" },
  params: { length: "u32", factor: "f32", shift: "u32" },
  wgsl: `@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = linear_workgroup(id, count) * 64u + lane;
  if (i < params.length) { y[i] = x[i] * params.factor + f32(params.shift); }
}`,
  grid: ({ length }) => Math.ceil(length / 64),
  cost,
  reference({ x, y }, { length, factor, shift }) {
    for (let i = 0; i < length; i++) y[i] = x[i] * factor + shift;
  },
});

/** One more in every word; without parameters. */
export const increment = defineKernel({
  name: "test increment",
  bindings: { y: "u32 write" },
  params: {},
  wgsl: `@compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3u) { y[id.x] += 1u; }`,
  grid: () => 4,
  cost,
  reference({ y }) {
    for (let i = 0; i < 4; i++) y[i]++;
  },
});

/** The floats of a buffer that was read. */
export const floats = (buffer: ArrayBuffer) => [...new Float32Array(buffer)];

/** Every method of the device throws `kind`. */
export async function assertEveryMethodThrows(
  device: Device,
  x: ReturnType<Device["allocate"]>,
  // deno-lint-ignore no-explicit-any
  kind: new (...args: any[]) => Error,
): Promise<void> {
  assertThrows(() => device.allocate(4, "y"), kind);
  assertThrows(() => device.release(x), kind);
  assertThrows(() => device.write(x, Float32Array.of(1)), kind);
  assertThrows(() => device.clear(x), kind);
  assertThrows(() => device.copy(x, x), kind);
  assertThrows(() => device.run(increment, { y: x }, {}), kind);
  assertThrows(() => device.flush(), kind);
  await assertRejects(() => device.read([x]), kind);
}
