/**
 * What does the mesh cost? Wanted: at least 0.80 of one worker's speed with both cores, over werift at most 1.2 times what
 * memory links and raw werift predict; on one core at most 1.1 times the sum of its kernels' own times.
 *
 * With both cores: a three-worker mesh on memory links beside one worker, and the same mesh as processes over werift beside
 * what memory links and raw werift predict. On one core, where nothing can hide behind anything: the mesh beside the sum of
 * its kernels' own times, for the model of bench step and for the demo's, which is so small that what is not arithmetic
 * weighs. Memory over 300 steps is bench/mesh/memory.ts.
 *
 * `--model` and `--cores` measure only one of them, `--turns=1` everything once.
 *
 * @module
 */
import { size, table } from "../../coordinator/amounts.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import {
  inMemory,
  kernelSeconds,
  type ModelName,
  NO_TASKSET,
  onOneCore,
  overWerift,
  type Phase,
  rawWerift,
  type Step,
  withText,
} from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "a three-worker mesh beside one worker, its kernels' times and werift";

/**
 * Steps of each measured run, and how many of them come before devices are warm and V8 has compiled what runs a few times a
 * step: a mesh on one core needs 870 ms of CPU for each of steps 4 to 13 and 840 behind them.
 */
const STEPS = 34, WARM = 14;
/** Steps of a run in which kernels are timed. */
const KERNEL_STEPS = 9;
/** Workers of a mesh. */
const WORKERS = 3;
/** Each kind of mesh runs this often, in turn: another process on the machine then disturbs all kinds alike. */
const TURNS = 2;
/** Largest ratio to what kernels and bytes predict, on one core. */
const MOST_CRAMPED = 1.1;

/** Times of one set of runs: seconds of warm steps, bytes of a step, bytes a second of a bare channel. */
class Runs {
  readonly seconds = new Map<string, number[]>();
  readonly bytes: number[] = [];
  readonly raw: number[] = [];

  add(kind: string, steps: readonly Step[]): void {
    this.seconds.set(kind, [
      ...this.seconds.get(kind) ?? [],
      ...steps.slice(WARM).map(({ seconds }) => seconds),
    ]);
    if (kind === "werift") this.bytes.push(...steps.slice(WARM).map(({ bytes }) => bytes));
  }

  median(kind: string): number {
    return median(this.seconds.get(kind)!);
  }

  /** Seconds that the bytes of a step take on a bare channel. */
  get road(): number {
    return median(this.bytes) / median(this.raw);
  }
}

/** Both cores. */
async function spread(folder: string, phase: Phase, turns: number) {
  const runs = new Runs();
  for (let turn = 0; turn < turns; turn++) {
    runs.add("one", await inMemory(folder, 1, 2, phase));
    runs.add("memory", await inMemory(folder, WORKERS, 1, phase));
    runs.raw.push(await rawWerift());
    runs.add("werift", await overWerift(folder, WORKERS, phase));
  }
  return {
    model: phase.model,
    oneSeconds: runs.median("one"),
    memorySeconds: runs.median("memory"),
    /** Speed of the mesh as a share of the lone worker's; wanted: at least 0.80. */
    memoryShare: runs.median("one") / runs.median("memory"),
    weriftSeconds: runs.median("werift"),
    bytesPerStep: median(runs.bytes),
    rawBytesPerSecond: median(runs.raw),
    /** Step over werift against memory-link step + bytes / raw goodput; wanted: at most 1.2. */
    weriftRatio: runs.median("werift") / (runs.median("memory") + runs.road),
  };
}

/** One core for everything. */
function cramped(folder: string, phase: Phase, turns: number) {
  return onOneCore(async () => {
    const runs = new Runs(), sums: number[] = [], alone: number[] = [];
    for (let turn = 0; turn < turns; turn++) {
      const kernels = await kernelSeconds(WORKERS, { ...phase, steps: KERNEL_STEPS });
      sums.push(kernels.seconds);
      alone.push((await kernelSeconds(1, { ...phase, steps: KERNEL_STEPS })).seconds);
      runs.add("memory", await inMemory(folder, WORKERS, 1, phase, kernels.speeds));
      runs.raw.push(await rawWerift());
      runs.add("werift", await overWerift(folder, WORKERS, phase));
    }
    const kernelSum = median(sums);
    return {
      model: phase.model,
      /** Of the mesh's workers together. */
      kernelSeconds: kernelSum,
      /** Where one worker has all of them: fewer and larger calls. */
      kernelSecondsAlone: median(alone),
      memorySeconds: runs.median("memory"),
      /** Wanted: at most 1.1. */
      memoryRatio: runs.median("memory") / kernelSum,
      weriftSeconds: runs.median("werift"),
      bytesPerStep: median(runs.bytes),
      rawBytesPerSecond: median(runs.raw),
      /** Step over werift against kernels + bytes / raw goodput; wanted: at most 1.1. */
      weriftRatio: runs.median("werift") / (kernelSum + runs.road),
    };
  });
}

const ms = (seconds: number) => `${(seconds * 1000).toFixed(0)} ms`;

function spreadRows(found: Awaited<ReturnType<typeof spread>>): string[][] {
  const { model } = found, road = `${size(found.bytesPerStep)} at ${size(found.rawBytesPerSecond)}/s`;
  return [
    [`${model}: one worker, both cores`, ms(found.oneSeconds), ""],
    [
      `${model}: three workers, memory links`,
      ms(found.memorySeconds),
      `${found.memoryShare.toFixed(2)} of its speed (wanted 0.80)`,
    ],
    [
      `${model}: three workers, werift`,
      ms(found.weriftSeconds),
      `${found.weriftRatio.toFixed(2)} x (memory links + ${road}) (wanted 1.2)`,
    ],
  ];
}

function crampedRows(found: NonNullable<Awaited<ReturnType<typeof cramped>>>): string[][] {
  const { model } = found, road = `${size(found.bytesPerStep)} at ${size(found.rawBytesPerSecond)}/s`;
  return [
    [
      `${model}: kernels of a step, one core`,
      ms(found.kernelSeconds),
      `${ms(found.kernelSecondsAlone)} where one worker has all of them`,
    ],
    [
      `${model}: three workers, memory links, one core`,
      ms(found.memorySeconds),
      `${found.memoryRatio.toFixed(2)} x the kernels (wanted ${MOST_CRAMPED})`,
    ],
    [
      `${model}: three workers, werift, one core`,
      ms(found.weriftSeconds),
      `${found.weriftRatio.toFixed(2)} x (kernels + ${road}) (wanted ${MOST_CRAMPED})`,
    ],
  ];
}

/** Flags besides --json. */
export const flags: BenchFlags = {
  choices: { model: ["step", "demo"], cores: ["1", "2"] },
  numbers: { turns: TURNS },
};

/** Measures and prints. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const models: readonly ModelName[] = flags.text("model")
    ? [flags.text("model") as ModelName]
    : ["step", "demo"];
  const cores = flags.text("cores") ?? "12",
    turns = flags.number("turns", { min: 1, integer: true }) ?? TURNS;
  await withText(async (folder) => {
    const rows: string[][] = [];
    const result = { bothCores: [] as unknown[], oneCore: [] as unknown[] };
    for (const model of models) {
      const phase = { model, steps: STEPS, batch: 8, sequence: 128 };
      if (cores.includes("2")) {
        const two = await spread(folder, phase, turns);
        rows.push(...spreadRows(two));
        result.bothCores.push(two);
      }
      if (cores.includes("1")) {
        const one = await cramped(folder, phase, turns);
        rows.push(...one ? crampedRows(one) : [[`${model}, one core: skipped`, "", NO_TASKSET]]);
        result.oneCore.push(one ?? { model, skipped: NO_TASKSET });
      }
    }
    record(result);
    print(...table(rows));
  });
}
