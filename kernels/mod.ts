/**
 * The arithmetic: devices, and every kernel that a model runs on them.
 *
 * @module
 */
export * from "./device.ts";
export * from "./device_info.ts";
export * from "./errors.ts";
export * from "./kernel.ts";
export { referenceDevice, type ReferenceOptions } from "./reference/device.ts";
export * from "./dispatch/dispatch.ts";
export * from "./optimizer/optimizer.ts";
export * from "./router/router.ts";
export * from "./attention/attention.ts";
export * from "./bf16/bf16.ts";
export * from "./cross_entropy/cross_entropy.ts";
export * from "./embedding/embedding.ts";
export * from "./rmsnorm/rmsnorm.ts";
export * from "./rope/rope.ts";
export * from "./swiglu/packed.ts";
export * from "./swiglu/swiglu.ts";
export * from "./vector/vector.ts";
export { openDevice, type OpenOptions } from "./open.ts";
export { WebGpuDevice, webgpuDevice, type WebGpuOptions } from "./webgpu/device.ts";
export type { TimedCall } from "./webgpu/timings.ts";
export { matmulNN, matmulNT, matmulNTAdd, matmulNTBias, matmulTN } from "./matmul/matmul.ts";
export { groupedNN, groupedNT, groupedTN } from "./matmul/grouped.ts";
export * from "./matmul/packed.ts";
export { TUNING_MILLISECONDS, type TuningOptions } from "./webgpu/tuner.ts";
