/**
 * What the mesh costs. With both cores: a three-worker mesh on memory links beside one worker, and the same mesh as
 * processes over werift beside what memory links and raw werift predict. On one core, where nothing can hide behind
 * anything: the mesh beside the sum of its kernels' own times. Memory over 300 steps is bench/memory.ts.
 *
 * @module
 */
import { size, table } from "../coordinator/report.ts";
import {
  inMemory,
  kernelSeconds,
  median,
  onOneCore,
  overWerift,
  rawGoodput,
  type Step,
  withText,
} from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "a three-worker mesh against one worker, its kernels' times and werift";

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
}

/** Steps of each measured run, and how many of them come before the devices are warm. */
const STEPS = 24, WARM = 6;
/** Each kind of mesh runs this often, in turn: another process on the machine then disturbs all kinds alike. */
const TURNS = 2;
const phase = { steps: STEPS, batch: 8, sequence: 128 };

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
async function spread(folder: string): Promise<Runs> {
  const runs = new Runs();
  for (let turn = 0; turn < TURNS; turn++) {
    runs.add("one", await inMemory(folder, 1, 2, phase));
    runs.add("memory", await inMemory(folder, 3, 1, phase));
    runs.raw.push(await rawGoodput());
    runs.add("werift", await overWerift(folder, 3, phase));
  }
  return runs;
}

/** One core for everything. */
function cramped(folder: string): Promise<{ runs: Runs; kernels: number } | undefined> {
  return onOneCore(async () => {
    const runs = new Runs(), kernels: number[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      kernels.push(await kernelSeconds(phase));
      runs.add("memory", await inMemory(folder, 3, 1, phase));
      runs.raw.push(await rawGoodput());
      runs.add("werift", await overWerift(folder, 3, phase));
    }
    return { runs, kernels: median(kernels) };
  });
}

/** Measures and prints; with `json` one object on stdout. */
export async function run({ json }: BenchOptions): Promise<void> {
  await withText(async (folder) => {
    const two = await spread(folder), one = await cramped(folder);
    const result = {
      oneSeconds: two.median("one"),
      memorySeconds: two.median("memory"),
      /** Speed of the mesh as a share of the lone worker's; wanted: at least 0.80. */
      memoryShare: two.median("one") / two.median("memory"),
      weriftSeconds: two.median("werift"),
      bytesPerStep: median(two.bytes),
      rawBytesPerSecond: median(two.raw),
      /** Step over werift against memory-link step + bytes / raw goodput; wanted: at most 1.2. */
      weriftRatio: two.median("werift") / (two.median("memory") + two.road),
      ...(one && {
        oneCore: {
          kernelSeconds: one.kernels,
          memorySeconds: one.runs.median("memory"),
          /** Wanted: at most 1.1. */
          memoryRatio: one.runs.median("memory") / one.kernels,
          weriftSeconds: one.runs.median("werift"),
          rawBytesPerSecond: median(one.runs.raw),
          /** Step over werift against kernels + bytes / raw goodput; wanted: at most 1.1. */
          weriftRatio: one.runs.median("werift") / (one.kernels + one.runs.road),
        },
      }),
    };
    if (json) return console.log(JSON.stringify(result));
    const ms = (s: number) => `${(s * 1000).toFixed(0)} ms`, rate = (bytes: number) => `${size(bytes)}/s`;
    const { oneCore } = result, bytes = size(result.bytesPerStep);
    const rows = [
      ["one worker, both cores", ms(result.oneSeconds), ""],
      [
        "three workers, memory links",
        ms(result.memorySeconds),
        `${result.memoryShare.toFixed(2)} of its speed (wanted 0.80)`,
      ],
      [
        "three workers, werift",
        ms(result.weriftSeconds),
        `${result.weriftRatio.toFixed(2)} x (memory links + ${bytes} at ${
          rate(result.rawBytesPerSecond)
        }) (wanted 1.2)`,
      ],
    ];
    if (oneCore) {
      rows.push(
        ["kernels of a step, one core", ms(oneCore.kernelSeconds), ""],
        [
          "three workers, memory links, one core",
          ms(oneCore.memorySeconds),
          `${oneCore.memoryRatio.toFixed(2)} x the kernels (wanted 1.1)`,
        ],
        [
          "three workers, werift, one core",
          ms(oneCore.weriftSeconds),
          `${oneCore.weriftRatio.toFixed(2)} x (kernels + ${bytes} at ${
            rate(oneCore.rawBytesPerSecond)
          }) (wanted 1.1)`,
        ],
      );
    }
    for (const line of table(rows)) console.log(line);
  });
}
