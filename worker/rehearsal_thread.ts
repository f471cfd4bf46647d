/**
 * A thread that compiles a slice's programs ahead of the compute thread. Started by {@linkcode startRehearsal}; it ends
 * itself.
 *
 * @module
 */
import { openDevice } from "../kernels/mod.ts";
import type { Slice } from "../mesh/plan.ts";
import { compileBackwards, rehearse } from "./rehearsal.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<Slice>) => void) | null;
  close(): void;
};

// Open before the slice is there.
const opening = openDevice({ kind: "webgpu" });
opening.catch(() => {}); // looked at below

scope.onmessage = async ({ data: slice }) => {
  try {
    const device = await opening;
    // Whether other drivers share what one of their devices compiles is not known.
    if (device.info.software) await compileBackwards(device, await rehearse(slice, device.info));
    device.close();
  } finally {
    scope.close();
  }
};
