/**
 * A process that says how long the kernels of one step of the benches' mesh take by themselves, as one JSON line. `place`:
 * each call of the step where it stands, so that it finds in caches what the calls before it left. `row`: each kind of call
 * many times in a row, so that it finds there what it needs. Argument: {"model", "batch", "sequence"}. For bench/mesh/mesh.ts.
 *
 * @module
 */
import {
  add,
  type Bindings,
  type Kernel,
  type Params,
  type Values,
  type View,
  webgpuDevice,
} from "../../kernels/mod.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { Lease } from "../../model/lease.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { randomStream } from "../../model/random.ts";
import { median } from "../harness/statistics.ts";
import { settings } from "../step/step_model.ts";
import { MICROBATCHES, models, type Phase } from "./mesh_runs.ts";

/** Steps that are timed in each of the two ways, and those before them in which programs are compiled. */
const STEPS = 5, WARM = 2;
/** Calls in a row. */
const ROW = 20;

const device = await webgpuDevice();
// Only then does a read wait for the device before it returns.
if (!device.fastReads) throw new Error("Kernels are timed where reads need not be awaited");

/** Times every call by itself, between two waits for the device; what a call takes that does next to nothing is taken off. */
class TimingDevice extends Lease {
  /** "place": each call once, where it stands. "row": the first call of its kind again and again. */
  way: "off" | "place" | "row" = "off";
  /** Seconds of all calls of this step, each in its place. */
  place = 0;
  /** Calls of this step by kernel and parameters. */
  counts = new Map<string, number>();
  /** Seconds of each kind of call in a row, one entry a step. */
  readonly rows = new Map<string, number[]>();
  readonly #word = device.allocate(1, "waited for");
  readonly #little = device.allocate(1, "added to itself");
  #call = 0;

  /** Measures a call that does next to nothing. */
  calibrate(): void {
    const little = () => device.run(add, { x: this.#word, y: this.#little }, { length: 1 });
    this.#call = median(Array.from({ length: 300 }, () => this.#seconds(little)));
  }

  override run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    const once = () => super.run(kernel, views, values);
    if (this.way === "off") return once();
    const seconds = this.#seconds(once) - this.#call;
    if (this.way === "place") {
      this.place += Math.max(0, seconds);
      return;
    }
    const key = `${kernel.name} ${JSON.stringify(values)}`, count = this.counts.get(key) ?? 0;
    this.counts.set(key, count + 1);
    if (count > 0) return;
    const row = this.#seconds(() => {
      // Gradients are added over and over: what comes out is useless, how long it takes is not.
      for (let i = 0; i < ROW; i++) once();
    });
    this.rows.set(key, [...this.rows.get(key) ?? [], Math.max(0, row - this.#call) / ROW]);
  }

  #seconds(work: () => void): number {
    void device.read([this.#word]); // whatever was given before is done
    const start = performance.now();
    work();
    void device.read([this.#word]);
    return (performance.now() - start) / 1000;
  }
}

const { model, batch, sequence } = JSON.parse(Deno.args[0]) as Omit<Phase, "steps">;
const config = parseConfig(models[model]), each = batch / MICROBATCHES;
const timing = new TimingDevice(device);
const loaded = await LoadedModel.load(timing, freshModel(config, 1), { training: true });
const draw = randomStream(1, "kernel sum", 0);
const ids = () => Uint32Array.from({ length: each * sequence }, () => draw.integer(config.vocabSize));

let step = 0;
async function train(): Promise<void> {
  timing.place = 0;
  timing.counts = new Map();
  step++;
  for (let m = 1; m <= MICROBATCHES; m++) {
    const sequences = { ids: ids(), batch: each, sequence }, labels = ids();
    // All microbatches add to the gradients; the optimizer's kernels run once.
    if (m < MICROBATCHES) await loaded.gradients(sequences, labels);
    else await loaded.step(sequences, labels, { ...settings, step });
  }
}

for (let i = 0; i < WARM; i++) await train();
timing.calibrate();
const places: number[] = [];
for (timing.way = "place"; places.length < STEPS;) {
  await train();
  places.push(timing.place);
}
timing.way = "row";
for (let i = 0; i < STEPS; i++) await train();
const inRows = [...timing.counts].reduce((sum, [key, n]) => sum + n * median(timing.rows.get(key)!), 0);
console.log(JSON.stringify({ place: median(places), row: inRows }));
Deno.exit(0);
