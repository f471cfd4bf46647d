/**
 * What can go wrong with a device, by stable names.
 *
 * @module
 */

/** Something about the device that its user can act on; `name` is stable. */
export class DeviceError extends Error {
  override readonly name: string = "DeviceError";
}

/** There is no WebGPU adapter. */
export class NoAdapterError extends DeviceError {
  override readonly name = "NoAdapterError";
}

/** An allocation was refused; the message says how much was asked for and how much is held. */
export class OutOfMemoryError extends DeviceError {
  override readonly name = "OutOfMemoryError";
}

/** A program was refused; the message names the kernel, the line and the source around it. */
export class ShaderError extends DeviceError {
  override readonly name = "ShaderError";
}

/** The device went away (driver reset, adapter removed); make a new one. */
export class DeviceLostError extends DeviceError {
  override readonly name = "DeviceLostError";
}
