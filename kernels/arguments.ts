/**
 * Checks of what callers hand to a device; both devices apply the same ones, so that what runs on one runs on the other.
 *
 * @module
 */
import { ALIGNMENT, type Memory, type View } from "./device.ts";
import { DeviceError } from "./errors.ts";
import type { Kernel, Params, Values } from "./kernel.ts";
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

/** What checks ask of a kernel at every call, worked out once. */
interface Signature {
  readonly names: readonly string[];
  readonly written: readonly boolean[];
  readonly params: readonly { readonly name: string; readonly integer: boolean }[];
}

const signatures = new WeakMap<Kernel, Signature>();

function signatureOf(kernel: Kernel): Signature {
  let signature = signatures.get(kernel);
  if (signature === undefined) {
    signature = {
      names: Object.keys(kernel.bindings),
      written: Object.values(kernel.bindings).map((binding) => binding.endsWith("write")),
      params: Object.entries(kernel.params).map(([name, type]) => ({ name, integer: type === "u32" })),
    };
    signatures.set(kernel, signature);
  }
  return signature;
}

/** The views of a call in order of its bindings, checked; `values` are checked as well. */
export function checkCall(
  kernel: Kernel,
  views: Readonly<Record<string, View>>,
  values: Values<Params>,
  owner: object,
  maxBinding: number,
): View[] {
  const { names, written, params } = signatureOf(kernel);
  const ordered: View[] = [];
  for (const name of names) {
    const view = views[name];
    if (view === undefined) throw new TypeError(`Cannot run ${kernel.name}: no view for binding ${name}`);
    checkBound(kernel, name, view, owner, maxBinding);
    ordered.push(view);
  }
  for (const { name, integer } of params) {
    const value = values[name];
    if (typeof value !== "number") {
      throw new TypeError(`Cannot run ${kernel.name}: no value for parameter ${name}`);
    }
    if (integer && value >>> 0 !== value) {
      throw new RangeError(`Cannot run ${kernel.name}: ${name} is ${value}, not a 32-bit unsigned integer`);
    }
  }
  checkSharing(kernel, names, written, ordered);
  return ordered;
}

function checkBound(kernel: Kernel, name: string, view: View, owner: object, maxBinding: number): void {
  const memory = view.memory as OwnedMemory;
  const outside = view.offset < 0 || view.length < 0 || view.offset + view.length > memory.words;
  // Only what is wrong needs words for it.
  if (memory.owner !== owner || memory.released || outside) {
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
}

/** WebGPU lets no dispatch write to a buffer that it also binds for reading, nor bind overlapping writable spans. */
function checkSharing(
  kernel: Kernel,
  names: readonly string[],
  written: readonly boolean[],
  views: readonly View[],
): void {
  for (let i = 0; i < views.length; i++) {
    if (!written[i]) continue;
    for (let j = 0; j < views.length; j++) {
      if (i === j || views[i].memory !== views[j].memory) continue;
      const apart = views[i].offset + views[i].length <= views[j].offset ||
        views[j].offset + views[j].length <= views[i].offset;
      if (written[j] && apart) continue;
      throw new DeviceError(
        `Cannot run ${kernel.name}: it writes ${names[i]} and binds ${names[j]}, and both lie in ` +
          `${views[i].memory.label}. Give them separate allocations.`,
      );
    }
  }
}
