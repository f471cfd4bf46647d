/**
 * How a tuner times a variant on a device: the sample in memory of its own, calls in a row, and a wait for the last.
 *
 * @module
 */
import { type Device, part, type View } from "../device.ts";
import type { Bindings, Kernel, Params, Values } from "../kernel.ts";
import type { BenchMaker } from "./tuner.ts";

/** A device on which a call's variant can be named. */
export interface VariantDevice extends Device {
  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
    variantName?: string,
  ): void;
}

/** Makes samples on `device`. Throws {@linkcode OutOfMemoryError} where there is no room for one; nothing is kept then. */
export function benchOn(device: VariantDevice): BenchMaker {
  return (kernel, { values, words }) => {
    const views: Record<string, View> = {};
    const release = () => {
      for (const view of Object.values(views)) device.release(view);
    };
    try {
      for (const [name, content] of Object.entries(words)) {
        const length = typeof content === "number" ? content : content.length;
        const view = views[name] = device.allocate(length, "tuning");
        if (typeof content === "number") device.clear(view);
        else device.write(view, content);
      }
    } catch (error) {
      release();
      throw error;
    }
    const word = part(Object.values(views)[0], 0, 1);
    return {
      release,
      time: async (variant, calls) => {
        const start = performance.now();
        for (let i = 0; i < calls; i++) device.run(kernel, views, values, variant);
        await device.read([word]);
        return performance.now() - start;
      },
    };
  };
}
