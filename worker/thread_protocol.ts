/**
 * What the main thread and the compute thread say to each other. Tensors travel as transferred buffers.
 *
 * @module
 */
import {
  DeviceError,
  DeviceLostError,
  NoAdapterError,
  OutOfMemoryError,
  ShaderError,
} from "../kernels/errors.ts";
import type { Compute, Exchange } from "./compute.ts";
import type { SpeedOptions } from "./known_speeds.ts";

/** Which device to open: the best there is, or one by name. */
export type DeviceChoice = "auto" | "webgpu" | "reference";

/** How a compute thread opens its device. */
export interface ThreadOptions {
  readonly device: DeviceChoice;
  /** Bytes that the worker may use at most, told to the coordinator; absent: what the device offers. */
  readonly memory?: number;
  /** What the mesh has of the device's time, above 0 and below 1; absent: all of it. */
  readonly share?: number;
  /** Present: the device measures on first use which programs are best; what an earlier one found out (see `tuned`). */
  readonly tuning?: { readonly known?: string };
  /** Present: a speed that is known is not measured again, and one that was measured is told (see `measured`). */
  readonly speeds?: SpeedOptions;
}

/** The methods of {@linkcode Compute} that a thread answers. */
export type Method = Exclude<keyof Compute, "close">;

/** An error as it crosses the thread border: its name survives, its class does not. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
}

/** Main thread to compute thread. */
export type ToThread =
  | { readonly type: "open"; readonly options: ThreadOptions }
  | { readonly type: "call"; readonly id: number; readonly method: Method; readonly args: readonly unknown[] }
  | { readonly type: "exchanged"; readonly id: number; readonly rows: ArrayBuffer[] }
  | { readonly type: "exchange-failed"; readonly id: number; readonly error: WireError }
  | { readonly type: "close" };

/** Compute thread to main thread. */
export type FromThread =
  | { readonly type: "opened" }
  | { readonly type: "refused"; readonly error: WireError }
  | { readonly type: "result"; readonly id: number; readonly value: unknown }
  | { readonly type: "failed"; readonly id: number; readonly error: WireError }
  | { readonly type: "exchange"; readonly id: number; readonly exchange: Exchange }
  /** What the device's tuning has found out so far, and how fast devices were: each as text to keep. */
  | { readonly type: "tuned" | "measured"; readonly known: string };

/** Packs an error for the other thread. */
export function wireError(error: unknown): WireError {
  if (error instanceof Error) return { name: error.name, message: error.message, stack: error.stack };
  return { name: "Error", message: String(error) };
}

/** An error of the other thread whose class is not known here; it keeps its name. */
export class ThreadError extends Error {
  override readonly name: string;
  constructor(wire: WireError) {
    super(wire.message);
    this.name = wire.name;
  }
}

/** What a device says that its user can act on keeps its class on the way. */
const deviceErrors = new Map(
  [DeviceError, NoAdapterError, OutOfMemoryError, ShaderError, DeviceLostError]
    .map((type) => [new type("").name, type]),
);

/** The error that {@linkcode wireError} packed: a device's error as such, any other as a {@linkcode ThreadError}. */
export function fromWire(wire: WireError): Error {
  const type = deviceErrors.get(wire.name);
  const error = type === undefined ? new ThreadError(wire) : new type(wire.message);
  if (wire.stack !== undefined) error.stack = wire.stack;
  return error;
}

/**
 * The tensors' buffers inside a value, each once: what a message hands over instead of copying. Small arrays of integers
 * (counts, token ids) are copied, so that their sender may go on using them.
 */
export function transfers(value: unknown): ArrayBuffer[] {
  const found = new Set<ArrayBuffer>();
  const visit = (item: unknown): void => {
    if (item instanceof ArrayBuffer) found.add(item);
    else if (item instanceof Float32Array) {
      // A view of a part shares its buffer with others, who would lose it: such views are copied instead.
      if (item.buffer instanceof ArrayBuffer && item.byteLength === item.buffer.byteLength) {
        found.add(item.buffer);
      }
    } else if (ArrayBuffer.isView(item)) return;
    else if (Array.isArray(item)) item.forEach(visit);
    else if (typeof item === "object" && item !== null) Object.values(item).forEach(visit);
  };
  visit(value);
  return [...found];
}
