/**
 * The arithmetic: devices, and every kernel that a model runs on them.
 *
 * @module
 */
export * from "./device.ts";
export * from "./errors.ts";
export * from "./kernel.ts";
export { referenceDevice, type ReferenceOptions } from "./reference/device.ts";
export * from "./dispatch/dispatch.ts";
export * from "./optimizer/optimizer.ts";
export * from "./router/router.ts";
