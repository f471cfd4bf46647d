/**
 * A process that says how long the kernels of one step of the benches' mesh take by themselves, as one JSON line: the same
 * workers with the same places, all on this thread, each call timed by itself where it stands in a step, so that it finds in
 * caches what the calls before it left. Argument: {"model", "steps", "batch", "sequence", "workers"}. For bench/mesh/mesh.ts.
 *
 * @module
 */
import { join } from "@std/path";
import {
  add,
  type Bindings,
  type Device,
  type Kernel,
  type Params,
  type Values,
  type View,
  webgpuDevice,
} from "../../kernels/mod.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { Lease } from "../../model/lease.ts";
import { KnownSpeeds } from "../../worker/known_speeds.ts";
import { measureDevice } from "../../worker/device_profile.ts";
import { LocalCompute } from "../../worker/local_compute.ts";
import { median } from "../harness/statistics.ts";
import { meshInProcess } from "./in_process.ts";
import { BESIDE, type Phase, recipe, withText } from "./mesh_runs.ts";

/** Steps before those that count: in them programs are compiled. */
const WARM = 2;
/** Calls that do next to nothing, by which one is measured. */
const LITTLE = 300;

/** Times every call by itself, between two waits for the device; what a call takes that does next to nothing is taken off. */
class TimingDevice extends Lease {
  /** Seconds of all calls since somebody set it to zero. */
  seconds = 0;
  readonly #word = this.allocate(1, "waited for");
  readonly #call: number;

  constructor(device: Device) {
    super(device);
    const little = this.allocate(1, "added to itself");
    const call = () => super.run(add, { x: this.#word, y: little }, { length: 1 });
    this.#call = median(Array.from({ length: LITTLE }, () => this.#timed(call)));
  }

  override run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.seconds += Math.max(0, this.#timed(() => super.run(kernel, views, values)) - this.#call);
  }

  #timed(work: () => void): number {
    void this.read([this.#word]); // whatever was given before is done
    const start = performance.now();
    work();
    void this.read([this.#word]);
    return (performance.now() - start) / 1000;
  }
}

const { workers, ...phase } = JSON.parse(Deno.args[0]) as Phase & { readonly workers: number };
const now = () => performance.now(), runtime = navigator.userAgent;
const lone = await webgpuDevice();
// Only then does a read wait for the device before it returns.
if (!lone.fastReads) throw new Error("Kernels are timed where reads need not be awaited");
let known = "";
new KnownSpeeds({ beside: BESIDE }, runtime, (text) => known = text).keep(
  lone.info,
  await measureDevice(lone, now),
);
lone.close();

const hub = new MemoryHub(denoRuntime()), devices: TimingDevice[] = [], sums: number[] = [];
const mesh = await meshInProcess(Array.from({ length: workers }, () => ({
  transport: hub.transport(),
  compute: async (exchanger) => {
    const device = new TimingDevice(await webgpuDevice());
    devices.push(device);
    const speeds = new KnownSpeeds({ known, beside: BESIDE }, runtime, () => {});
    return new LocalCompute({ device, exchanger, now, speeds, memory: device.info.maxAllocation });
  },
})));
await withText(async (folder) => {
  const { event } = await mesh.coordinator.run({
    recipe: recipe("kernels", workers, phase),
    resolve: (path) => join(folder, path),
    runs: folder,
    resume: false,
    resumeCommand: "",
  }, {
    workers,
    tell: ({ event }) => {
      if (event !== "step") return;
      sums.push(devices.reduce((sum, { seconds }) => sum + seconds, 0));
      for (const device of devices) device.seconds = 0;
    },
  });
  if (event !== "done") throw new Error(`The run did not come to its end: ${event}`);
});
console.log(JSON.stringify({ seconds: median(sums.slice(WARM)), speeds: known }));
Deno.exit(0);
