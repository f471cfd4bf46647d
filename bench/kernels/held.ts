/**
 * Memory of a device with something in it.
 *
 * @module
 */
import type { Device, View, Words } from "../../kernels/mod.ts";

/** Words of a device's own: these, or so many zeros. */
export function held(device: Device, content: number | Words, label: string): View {
  const view = device.allocate(typeof content === "number" ? content : content.length, label);
  if (typeof content === "number") device.clear(view);
  else device.write(view, content);
  return view;
}
