/** What tests share that look at how workers use a device. */
import type { Bindings, Device, Kernel, Params, Values, View } from "../kernels/mod.ts";
import type { Slice } from "../mesh/plan.ts";
import { parseConfig } from "../model/config.ts";
import { freshModel } from "../model/init.ts";
import { Lease } from "../model/lease.ts";
import { elements } from "../model/tensors.ts";
import type { LocalCompute } from "../worker/local_compute.ts";

/** A device that tells of every kernel that it is about to run. */
export class Witness extends Lease {
  constructor(device: Device, private readonly saw: (kernel: Kernel, values: Values<Params>) => void) {
    super(device);
  }

  override run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.saw(kernel as unknown as Kernel, values);
    super.run(kernel, views, values);
  }
}

/** A device that writes down names of kernels, and "read", in the order in which it gets them. */
export class Listed extends Witness {
  readonly calls: string[];

  constructor(device: Device) {
    const calls: string[] = [];
    super(device, ({ name }) => calls.push(name));
    this.calls = calls;
  }

  override read(views: readonly View[]): Promise<ArrayBuffer[]> {
    this.calls.push("read");
    return super.read(views);
  }

  override readJoined(views: readonly View[]): Promise<ArrayBuffer> {
    this.calls.push("read");
    return super.readJoined(views);
  }
}

/** Loads a slice and gives it the weights of a fresh model. */
export async function loadFresh(compute: LocalCompute, slice: Slice, seed = 5): Promise<void> {
  const source = freshModel(parseConfig(slice.model), seed);
  for (const { name, shape } of await compute.load(slice)) {
    await compute.put(name, "weight", 0, await source.read(name, 0, elements(shape)));
  }
}

/** A step of the optimizer that changes weights enough to be seen. */
export const step = {
  commit: true,
  clip: 1,
  learningRate: 0.1,
  step: 1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0,
} as const;
