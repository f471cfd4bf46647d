/**
 * Which programs a slice of a plan will run: a round of it on a device that computes nothing. A second thread compiles them
 * from the last to the first while the worker, which begins with the first, loads weights and takes its first step; where
 * the driver keeps programs in a cache that all threads share, each is compiled once, by whoever comes to it first.
 *
 * @module
 */
import { DryDevice } from "../kernels/dry_device.ts";
import { type Device, type DeviceInfo, part, type View } from "../kernels/mod.ts";
import type { Bindings, Kernel, Params, Values } from "../kernels/kernel.ts";
import { chooseVariant } from "../kernels/webgpu/call.ts";
import { hostedExperts, ownMicrobatches, type Slice } from "../mesh/plan.ts";
import { LocalCompute } from "./local_compute.ts";
import { sizesOf } from "./sizes.ts";

/** A call of a program. */
export interface ProgramCall {
  readonly kernel: Kernel;
  readonly variant: string;
  readonly values: Values<Params>;
  /** Words of each binding. */
  readonly words: Readonly<Record<string, number>>;
}

/** Keeps the first call of each program that a device with this description would run. */
class RecordingDevice extends DryDevice {
  readonly calls = new Map<string, ProgramCall>();

  constructor(override readonly info: DeviceInfo) {
    super();
  }

  override run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    const plain = kernel as unknown as Kernel, variant = chooseVariant(plain, values, this.info).name;
    const program = `${kernel.name} / ${variant}`;
    if (this.calls.has(program)) return;
    const words = Object.fromEntries(
      Object.entries<View>(views).map(([name, { length }]) => [name, length]),
    );
    this.calls.set(program, { kernel: plain, variant, values: { ...values }, words });
  }
}

/**
 * The first call of each program of a training round of `slice`, in order. Rows that go to experts elsewhere are known only in
 * the round itself: here each stage computes all of its own, and a host gets as many as evenly chosen experts would.
 */
export async function rehearse(slice: Slice, info: DeviceInfo): Promise<ProgramCall[]> {
  const { self } = slice, sizes = sizesOf(slice), { tokens, rowBytes, activationBytes, config } = sizes;
  const device = new RecordingDevice(info);
  const compute = new LocalCompute({
    device,
    exchanger: () => Promise.reject(new Error("A rehearsal has nobody to ask")),
    now: () => 0,
    memory: Infinity,
  });
  const stages = slice.stages.map((stage) =>
    stage.worker === self ? { ...stage, experts: stage.experts.map((hosts) => hosts.map(() => self)) } : stage
  );
  await compute.load({ ...slice, stages });
  const microbatch = ownMicrobatches(slice).from;
  const own = stages.flatMap(({ worker }, index) => worker === self ? [index] : []);
  for (const stage of own) {
    const { embedding, head } = stages[stage];
    await compute.forward({
      stage,
      microbatch,
      mode: "train",
      validLabels: 1,
      ...(embedding ? { ids: new Uint32Array(tokens) } : { activation: new ArrayBuffer(activationBytes) }),
      ...(head ? { labels: new Uint32Array(tokens) } : {}),
    });
  }
  const guests = hostedExperts(stages.filter(({ worker }) => worker !== self), self);
  for (const pass of ["forward", "backward"] as const) {
    for (const [layer, experts] of guests) {
      const each = Math.max(1, Math.round(tokens * config.expertsPerToken / config.experts));
      const counts = new Uint32Array(experts.length).fill(each);
      const part = { counts, rows: new ArrayBuffer(each * experts.length * rowBytes) };
      await compute.host({ layer, microbatch, pass, mode: "train", part });
      if (pass === "backward") await compute.hostWeights(layer, microbatch);
    }
  }
  for (const stage of own.toReversed()) {
    const { head } = stages[stage];
    await compute.backward(stage, microbatch, head ? undefined : new ArrayBuffer(activationBytes));
  }
  await compute.finish();
  await compute.step({
    commit: true,
    clip: 1,
    learningRate: 0,
    step: 1,
    beta1: 0,
    beta2: 0,
    epsilon: 1,
    weightDecay: 0,
  });
  compute.close();
  return [...device.calls.values()];
}

/** Runs each call once on zeros, from the last to the first: a software adapter compiles in the first dispatch. */
export async function compileBackwards(device: Device, calls: readonly ProgramCall[]): Promise<void> {
  for (const { kernel, values, words } of calls.toReversed()) {
    const views: Record<string, View> = {};
    for (const [name, length] of Object.entries(words)) {
      views[name] = device.allocate(length, "rehearsal");
      device.clear(views[name]);
    }
    device.run(kernel, views, values);
    // The memory serves the next program only once this one is done.
    await device.read([part(Object.values(views)[0], 0, 1)]);
    for (const view of Object.values(views)) device.release(view);
  }
}
