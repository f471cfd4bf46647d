/**
 * A process that says how long the kernels of one step of the benches' mesh take by themselves, as one JSON line: each
 * call of the step, many times in a row. Argument: {"batch", "sequence"}. For bench/mesh.ts.
 *
 * @module
 */
import {
  type Bindings,
  type Kernel,
  type Params,
  type Values,
  type View,
  webgpuDevice,
} from "../kernels/mod.ts";
import { parseConfig } from "../model/config.ts";
import { freshModel } from "../model/init.ts";
import { Lease } from "../model/lease.ts";
import { LoadedModel } from "../model/local_model.ts";
import { randomStream } from "../model/random.ts";
import { median, MICROBATCHES, model } from "./mesh_runs.ts";
import { settings } from "./step_model.ts";

/** Steps in which each kind of call is timed once, and those before them in which programs are compiled. */
const STEPS = 5, WARM = 2;
/** Calls in a row. */
const ROW = 20;

const device = await webgpuDevice();
// Only then does a read wait for the device before it returns.
if (!device.fastReads) throw new Error("Kernels are timed where reads need not be awaited");

/** Counts calls by kernel and parameters, and times the first of each kind in a step by repeating it. */
class RepeatingDevice extends Lease {
  readonly #times = new Map<string, number[]>();
  #counts = new Map<string, number>();
  readonly #word = device.allocate(1, "waited for");

  override run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    super.run(kernel, views, values);
    const key = `${kernel.name} ${JSON.stringify(values)}`, count = this.#counts.get(key) ?? 0;
    this.#counts.set(key, count + 1);
    if (count > 0) return;
    const nothing = this.#seconds(() => {});
    const row = this.#seconds(() => {
      // Gradients are added over and over: what comes out is useless, how long it takes is not.
      for (let i = 0; i < ROW; i++) super.run(kernel, views, values);
    });
    this.#times.set(key, [...this.#times.get(key) ?? [], Math.max(0, row - nothing) / ROW]);
  }

  #seconds(work: () => void): number {
    void device.read([this.#word]); // whatever was given before is done
    const start = performance.now();
    work();
    void device.read([this.#word]);
    return (performance.now() - start) / 1000;
  }

  /** Forgets what was timed and counted. */
  reset(): void {
    this.#times.clear();
    this.#counts.clear();
  }

  nextStep(): Map<string, number> {
    const counts = this.#counts;
    this.#counts = new Map();
    return counts;
  }

  time(key: string): number {
    return median(this.#times.get(key)!);
  }
}

const { batch, sequence } = JSON.parse(Deno.args[0]) as { batch: number; sequence: number };
const config = parseConfig(model), each = batch / MICROBATCHES;
const repeating = new RepeatingDevice(device);
const loaded = await LoadedModel.load(repeating, freshModel(config, 1), { training: true });
const draw = randomStream(1, "kernel sum", 0);
const ids = () => Uint32Array.from({ length: each * sequence }, () => draw.integer(config.vocabSize));
let counts = new Map<string, number>();
for (let step = 1; step <= WARM + STEPS; step++) {
  if (step === WARM + 1) repeating.reset();
  for (let m = 1; m <= MICROBATCHES; m++) {
    const sequences = { ids: ids(), batch: each, sequence }, labels = ids();
    // All microbatches add to the gradients; the optimizer's kernels run once.
    if (m < MICROBATCHES) await loaded.gradients(sequences, labels);
    else await loaded.step(sequences, labels, { ...settings, step });
  }
  counts = repeating.nextStep();
}
const sums = new Map<string, number>();
let seconds = 0;
for (const [key, count] of counts) {
  const sum = count * repeating.time(key), name = key.split(" ")[0];
  seconds += sum;
  sums.set(name, (sums.get(name) ?? 0) + sum);
}
console.log(JSON.stringify({ seconds, kernels: Object.fromEntries(sums) }));
Deno.exit(0);
