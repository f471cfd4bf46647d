/**
 * Both devices for tests that must hold on each. Without a WebGPU adapter importing this fails, and with it the tests.
 *
 * @module
 */
import { type Device, referenceDevice, webgpuDevice } from "../../kernels/mod.ts";

/** A device by its kind. */
export const devices: readonly { readonly kind: string; readonly device: Device }[] = [
  { kind: "webgpu", device: await webgpuDevice() },
  { kind: "reference", device: referenceDevice() },
];

Deno.test.afterAll(() => {
  for (const { device } of devices) device.close();
});
