/**
 * Checks of what callers hand to a device; both devices apply the same ones, so that what runs on one runs on the other.
 *
 * @module
 */
import { ALIGNMENT, type Memory, type View } from "./device.ts";
import { DeviceError } from "./errors.ts";
import type { Bindings, Kernel, Params, Values } from "./kernel.ts";
import { describeBytes } from "./pool.ts";

/** A memory that its device can tell from others' and from released ones. */
export interface OwnedMemory extends Memory {
  readonly owner: object;
  released: boolean;
}

/** Throws unless `view` lies inside live memory of `owner`. */
export function checkView(view: View, owner: object, action: string): void {
  const memory = view.memory as OwnedMemory;
  if (memory.owner !== owner) {
    throw new TypeError(`Cannot ${action}: ${memory.label} belongs to another device`);
  }
  if (memory.released) throw new DeviceError(`Cannot ${action}: ${memory.label} has been released`);
  if (view.offset < 0 || view.length < 0 || view.offset + view.length > memory.words) {
    throw new RangeError(
      `Cannot ${action}: words ${view.offset}..${view.offset + view.length} lie outside ${memory.label}, ` +
        `which has ${memory.words}`,
    );
  }
}

/** Throws unless `data` is live and fits `view`. A detached buffer would end the process inside the driver. */
export function checkWrite(view: View, data: ArrayBufferView<ArrayBuffer>): void {
  if (data.buffer.detached) {
    throw new TypeError(`Cannot write to ${view.memory.label}: the host data has been transferred away`);
  }
  if (data.byteLength > view.length * 4) {
    throw new RangeError(
      `Cannot write ${data.byteLength / 4} words to a span of ${view.length} in ${view.memory.label}`,
    );
  }
}

/** Throws unless `to` is as long as `from`. */
export function checkCopy(from: View, to: View): void {
  if (from.length === to.length) return;
  throw new RangeError(
    `Cannot copy ${from.length} words of ${from.memory.label} to ${to.length} of ${to.memory.label}: ` +
      `lengths must be equal`,
  );
}

/** The views of a call in order of its bindings, checked; `values` are checked as well. */
export function checkCall(
  kernel: Kernel,
  views: Readonly<Record<string, View>>,
  values: Values<Params>,
  owner: object,
  maxBinding: number,
): View[] {
  const ordered: View[] = [];
  const names = Object.keys(kernel.bindings);
  for (const name of names) {
    const view = views[name];
    if (view === undefined) throw new TypeError(`Cannot run ${kernel.name}: no view for binding ${name}`);
    if ((view.memory as OwnedMemory).owner !== owner || (view.memory as OwnedMemory).released) {
      checkView(view, owner, `run ${kernel.name} on ${name}`);
    }
    if (view.offset < 0 || view.length < 0 || view.offset + view.length > view.memory.words) {
      checkView(view, owner, `run ${kernel.name} on ${name}`);
    }
    if (view.offset % ALIGNMENT !== 0) {
      throw new RangeError(
        `Cannot run ${kernel.name}: ${name} starts at word ${view.offset} of ${view.memory.label}; ` +
          `bound views start at multiples of ${ALIGNMENT}`,
      );
    }
    if (view.length * 4 > maxBinding) {
      throw new DeviceError(
        `Cannot run ${kernel.name}: ${name} (${view.memory.label}) has ${describeBytes(view.length * 4)}, ` +
          `this device binds at most ${describeBytes(maxBinding)}. Split the tensor.`,
      );
    }
    ordered.push(view);
  }
  for (const name in kernel.params) {
    if (typeof values[name] !== "number") {
      throw new TypeError(`Cannot run ${kernel.name}: no value for parameter ${name}`);
    }
    if (kernel.params[name] === "u32" && values[name] >>> 0 !== values[name]) {
      throw new RangeError(
        `Cannot run ${kernel.name}: ${name} is ${values[name]}, not a 32-bit unsigned integer`,
      );
    }
  }
  checkSharing(kernel, names, ordered);
  return ordered;
}

/** WebGPU lets no dispatch write to a buffer that it also binds for reading, nor bind overlapping writable spans. */
function checkSharing(kernel: Kernel, names: string[], views: View[]): void {
  for (let i = 0; i < views.length; i++) {
    if (!isWritten(kernel.bindings, names[i])) continue;
    for (let j = 0; j < views.length; j++) {
      if (i === j || views[i].memory !== views[j].memory) continue;
      const apart = views[i].offset + views[i].length <= views[j].offset ||
        views[j].offset + views[j].length <= views[i].offset;
      if (isWritten(kernel.bindings, names[j]) && apart) continue;
      throw new DeviceError(
        `Cannot run ${kernel.name}: it writes ${names[i]} and binds ${names[j]}, and both lie in ` +
          `${views[i].memory.label}. Give them separate allocations.`,
      );
    }
  }
}

/** Whether a kernel writes the binding of this name. */
export function isWritten(bindings: Bindings, name: string): boolean {
  return bindings[name].endsWith("write");
}
