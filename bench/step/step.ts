/**
 * How long does one training step take beside PyTorch's, of its model and batch: forward, backward, norm, AdamW? Where does the
 * time go, kernel by kernel, beside the device's measured limits? Wanted: 0.2 of PyTorch's tokens a second in f32, 0.26 in
 * bf16, one thread each; the peer is left out, which is said, where Debian's torch is missing.
 *
 * `--check` compares with the figures in step_committed.json, `--commit` writes them.
 *
 * @module
 */
import { say } from "../../cli/verb.ts";
import { type TimedCall, type WebGpuDevice, webgpuDevice } from "../../kernels/mod.ts";
import { freshModel } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { Precision } from "../../model/precision.ts";
import { countParameters } from "../../model/tensors.ts";
import { median } from "../harness/statistics.ts";
import { activationBytes } from "./activations.ts";
import { type Limits, limits } from "../kernels/limits.ts";
import { oneThread } from "../harness/adapter.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { checkStep, type PrecisionFigures, type StepFigures } from "./step_check.ts";
import { BATCH, batch, config, SEQUENCE, settings } from "./step_model.ts";
import { describe, type KernelShare, LEAST, type PrecisionResult } from "./step_text.ts";
import { torch } from "./torch.ts";

/** One line for the list of benches. */
export const title = "one training step of a 5 M parameter mixture of experts, beside PyTorch";

const WARM = 3, TURNS = 3, STEPS_A_TURN = 4;

const precisions: readonly Precision[] = ["f32", "bf16"];

/** The figures that `--check` compares with. */
const COMMITTED = new URL("step_committed.json", import.meta.url);

/** What was seen of a model between two runs of the peer: the machine is the same for all three. */
interface Turn {
  readonly stepMs: number;
  /** The calls of one more step. */
  readonly calls: readonly TimedCall[];
}

/** One model that steps, and what was seen of it. */
class Runner {
  readonly times: number[] = [];
  readonly losses: number[] = [];
  readonly turns: Turn[] = [];
  #step = 0;

  constructor(readonly precision: Precision, readonly model: LoadedModel) {}

  async step(): Promise<void> {
    const { sequences, labels } = batch(++this.#step);
    const start = performance.now();
    const { ce } = await this.model.step(sequences, labels, { ...settings, step: this.#step });
    // The next step would wait for this one's AdamW.
    await this.model.device.read([]);
    this.times.push(performance.now() - start);
    this.losses.push(ce);
  }
}

/** Each kernel's calls in a step and their time, the median of all turns; the longest first. */
function byKernel(turns: readonly Turn[], limit: Limits): KernelShare[] {
  const sums = new Map<string, { calls: number; flops: number; bytes: number; times: number[] }>();
  turns.forEach(({ calls }, turn) => {
    for (const { kernel, values, milliseconds } of calls) {
      const { flops, bytes } = kernel.cost(values);
      const sum = sums.get(kernel.name) ?? { calls: 0, flops: 0, bytes: 0, times: turns.map(() => 0) };
      sum.calls += 1 / turns.length;
      sum.flops += flops / turns.length;
      sum.bytes += bytes / turns.length;
      sum.times[turn] += milliseconds;
      sums.set(kernel.name, sum);
    }
  });
  return [...sums].map(([name, { calls, flops, bytes, times }]) => {
    const ms = median(times), gflops = flops / ms / 1e6, gigabytes = bytes / ms / 1e6;
    const arithmetic = gflops / limit.gflops, memory = gigabytes / limit.gigabytes;
    return {
      name,
      calls: Math.round(calls),
      ms,
      gflops,
      gigabytes,
      share: Math.max(arithmetic, memory),
      bound: arithmetic >= memory ? "arithmetic" as const : "memory" as const,
    };
  }).sort((a, b) => b.ms - a.ms);
}

/**
 * The calls of a step with their times: by the device's clock, or where it has none each call waited for, the wait for
 * nothing taken off.
 */
async function timeCalls(device: WebGpuDevice, runner: Runner): Promise<TimedCall[]> {
  return await device.timed(() => runner.step()) ?? await waitedCalls(device, runner);
}

async function waitedCalls(device: WebGpuDevice, runner: Runner): Promise<TimedCall[]> {
  const word = device.allocate(1, "waited for");
  const waits: number[] = [];
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    await device.read([word]);
    waits.push(performance.now() - start);
  }
  const overhead = median(waits);
  const calls: TimedCall[] = [];
  const run = device.run;
  device.run = (kernel, views, values) => {
    run.call(device, kernel as never, views as never, values as never);
    // The fast road of `read` has waited for the device when it returns its promise.
    const start = performance.now();
    void device.read([word]);
    const milliseconds = Math.max(0, performance.now() - start - overhead);
    calls.push({ kernel: kernel as never, values: { ...values }, milliseconds });
  };
  try {
    await runner.step();
  } finally {
    device.run = run;
    device.release(word);
  }
  return calls;
}

/** Flags besides --json. */
export const flags: BenchFlags = { switches: ["check", "commit"] };

/** Measures and prints. False where a step is too slow beside its peer, or than it was. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  oneThread();
  const device = await webgpuDevice({ timings: true, tuning: {} });
  const limit = await limits(device);
  const runners: Runner[] = [];
  for (const precision of precisions) {
    const model = await LoadedModel.load(device, freshModel(config, 1), { training: true, precision });
    runners.push(new Runner(precision, model));
  }
  for (const runner of runners) for (let i = 0; i < WARM; i++) await runner.step();
  const peers: Awaited<ReturnType<typeof torch>>[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    // Everything takes turns, so that whatever else the machine does hits all alike.
    for (const runner of runners) {
      runner.times.length = 0;
      for (let i = 0; i < STEPS_A_TURN; i++) await runner.step();
      runner.turns.push({ stepMs: median(runner.times), calls: await timeCalls(device, runner) });
    }
    peers.push(await torch());
  }
  const rates = peers.flatMap((result) => "tokens" in result ? [result.tokens] : []);
  const peerTokens = rates.length === TURNS ? median(rates) : undefined;
  const tokens = BATCH * SEQUENCE;
  const results: PrecisionResult[] = [];
  for (const runner of runners) {
    const { turns } = runner;
    const stepMs = median(turns.map((turn) => turn.stepMs)), tokensPerSecond = tokens / stepMs * 1000;
    const [first, last] = [runner.losses[0], runner.losses.at(-1)!];
    const kernels = byKernel(turns, limit);
    const flops = kernels.reduce((sum, { gflops, ms }) => sum + gflops * ms * 1e6, 0);
    results.push({
      precision: runner.precision,
      stepMs,
      tokensPerSecond,
      shareOfArithmetic: flops / stepMs / 1e6 / limit.gflops,
      loss: [first, last],
      // Each turn beside its own peer: what slows both is no difference between them.
      ratio: peerTokens && median(turns.map((turn, i) => tokens / turn.stepMs * 1000 / rates[i])),
      kernels,
    });
    runner.model.release();
  }
  device.close();
  const activations = await activationBytes([512, 1024, 2048]);
  const absent = peers.find((result) => "absent" in result)?.absent;
  const result = {
    device: device.info.name,
    cores: navigator.hardwareConcurrency,
    parameters: countParameters(config).total,
    batch: BATCH,
    sequence: SEQUENCE,
    limit,
    peerTokensPerSecond: peerTokens,
    peerAbsent: peerTokens === undefined ? absent : undefined,
    precisions: results,
    activations,
  };
  record(result);
  print(...describe(result));
  let passed = results.every(({ ratio, precision }) => ratio === undefined || ratio >= LEAST[precision]);
  if (flags.has("check") || flags.has("commit")) {
    if (peerTokens === undefined) {
      say(`Nothing to compare with: PyTorch is absent (${absent})`);
      return false;
    }
    const figures = figuresOf(device.info.name, results, runners, rates);
    if (flags.has("commit")) {
      await Deno.writeTextFile(COMMITTED, JSON.stringify(figures, undefined, 2) + "\n");
    } else {
      const check = checkStep(JSON.parse(await Deno.readTextFile(COMMITTED)), figures);
      say(check.lines.join("\n"));
      passed &&= check.passed;
    }
  }
  return passed;
}

/** What is compared from run to run: times in steps of the peer of the same turn. */
function figuresOf(
  adapter: string,
  results: readonly PrecisionResult[],
  runners: readonly Runner[],
  rates: readonly number[],
): StepFigures {
  const entries = results.map(({ precision, ratio, kernels }, r): [string, PrecisionFigures] => {
    const shares = runners[r].turns.map(({ calls }, turn) => {
      const sums = new Map<string, number>();
      for (const { kernel: { name }, milliseconds } of calls) {
        sums.set(name, (sums.get(name) ?? 0) + milliseconds * rates[turn] / (BATCH * SEQUENCE) / 1000);
      }
      return sums;
    });
    const share = (name: string) => round(median(shares.map((sums) => sums.get(name) ?? 0)));
    return [precision, {
      ratio: round(ratio ?? 0),
      kernels: Object.fromEntries(kernels.map(({ name }) => [name, share(name)])),
    }];
  });
  return { peer: "PyTorch on one thread", adapter, precisions: Object.fromEntries(entries) };
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
