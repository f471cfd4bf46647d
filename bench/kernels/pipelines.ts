/**
 * What do the programs of one training step cost to compile? CPU time of the first dispatch of each, less that of a second,
 * with the driver's cache switched off. The model, sizes and microbatch are those of bench/mesh/start.ts, whose cold start
 * waits for them; nothing is wanted of single programs.
 *
 * @module
 */
import { cpuUsage } from "node:process";
import {
  type Kernel,
  part,
  type Values,
  type View,
  type WebGpuDevice,
  webgpuDevice,
} from "../../kernels/mod.ts";
import type { Params } from "../../kernels/kernel.ts";
import { chooseVariant } from "../../kernels/webgpu/call.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { DryDevice } from "../../kernels/dry_device.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { oneThread } from "../harness/adapter.ts";
import { held } from "./held.ts";
import { models } from "../mesh/mesh_runs.ts";
import { batch, settings } from "../step/step_model.ts";

/** One line for the list of benches. */
export const title = "CPU time to compile each program of a training step, cold";

/** Sequences of a microbatch and tokens of each, as in bench/mesh/start.ts. */
const SEQUENCES = 2, TOKENS = 128;

/** A call that a step makes. */
interface Call {
  readonly kernel: Kernel;
  readonly values: Values<Params>;
  /** Words of each binding. */
  readonly words: Readonly<Record<string, number>>;
}

/** Keeps every call; which device would run them is said, as kernels prefer other programs on other devices. */
class RecordingDevice extends DryDevice {
  readonly calls: Call[] = [];
  constructor(override readonly info: WebGpuDevice["info"]) {
    super();
  }
  override run(kernel: unknown, views: Readonly<Record<string, View>>, values: Values<Params>): void {
    const words = Object.fromEntries(Object.entries(views).map(([name, { length }]) => [name, length]));
    this.calls.push({ kernel: kernel as Kernel, values: { ...values }, words });
  }
}

/** A program and what it cost. */
export interface PipelineCost {
  readonly pipeline: string;
  /** Dispatches of it in a step of one microbatch. */
  readonly dispatches: number;
  /** CPU milliseconds that the first dispatch takes more than the second. */
  readonly compileMs: number;
  /** CPU milliseconds of the second dispatch, with all zeros. */
  readonly runMs: number;
}

/** The calls of one step of the model. */
async function callsOfStep(info: WebGpuDevice["info"]): Promise<Call[]> {
  const device = new RecordingDevice(info);
  const model = await LoadedModel.load(device, freshModel(parseConfig(models.demo), 1), { training: true });
  const { sequences, labels } = batch(1, SEQUENCES, TOKENS);
  await model.step(sequences, labels, { ...settings, step: 1 });
  return device.calls;
}

/** Each program of a step's calls, compiled on `device`; dearest first. */
async function pipelineCosts(device: WebGpuDevice, calls: readonly Call[]): Promise<PipelineCost[]> {
  const programs = new Map<string, { call: Call; variant: string; dispatches: number }>();
  for (const call of calls) {
    const variant = chooseVariant(call.kernel, call.values, device.info).name;
    const pipeline = `${call.kernel.name} / ${variant}`, program = programs.get(pipeline);
    if (program !== undefined) program.dispatches++;
    else programs.set(pipeline, { call, variant, dispatches: 1 });
  }
  const costs: PipelineCost[] = [];
  for (const [pipeline, { call: { kernel, values, words }, variant, dispatches }] of programs) {
    const views = Object.fromEntries(
      Object.entries(words).map(([name, length]) => [name, held(device, length, name)]),
    );
    const word = part(Object.values(views)[0], 0, 1);
    await device.read([word]);
    const once = async () => {
      const before = cpuUsage();
      device.run(kernel, views, values, variant);
      await device.read([word]);
      const { user, system } = cpuUsage(before);
      return (user + system) / 1000;
    };
    const first = await once(), runMs = await once();
    costs.push({ pipeline, dispatches, compileMs: first - runMs, runMs });
    for (const view of Object.values(views)) device.release(view);
  }
  return costs.sort((a, b) => b.compileMs - a.compileMs);
}

/** Measures and prints. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  oneThread();
  // Read when the driver is loaded.
  Deno.env.set("MESA_SHADER_CACHE_DISABLE", "true");
  const device = await webgpuDevice();
  try {
    const calls = await callsOfStep(device.info), costs = await pipelineCosts(device, calls);
    const total = costs.reduce((sum, { compileMs }) => sum + compileMs, 0);
    record({ device: device.info.name, total, costs });
    print(
      `${device.info.name}: ${costs.length} programs, ${total.toFixed(0)} ms of CPU to compile; ` +
        `${calls.length} dispatches a step of one microbatch\n`,
    );
    for (const { pipeline, dispatches, compileMs, runMs } of costs) {
      const times = `${compileMs.toFixed(0).padStart(6)} ms to compile, ${
        runMs.toFixed(2).padStart(6)
      } ms to run`;
      print(`${times} (on zeros), ${String(dispatches).padStart(3)} times: ${pipeline}`);
    }
  } finally {
    device.close();
  }
}
