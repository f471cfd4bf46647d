/**
 * How long from `join` to the first step of a run that waits for the worker? The demo's model on one worker that holds all of
 * it: cold (empty caches of programs and tunings, tuning included), then warm with what the cold start left. Wanted: 5 s
 * cold, 2 s warm.
 *
 * @module
 */
import { join } from "@std/path";
import { table } from "../../coordinator/amounts.ts";
import { type Running, volary } from "../../demo/processes.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import { recipe, withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "from join to the first step, cold and warm";

/** Pairs of a cold and warm starts, and warm ones of each. */
const TURNS = 2, WARM = 2;
/** Seconds that are wanted. */
const WANTED = { cold: 5, warm: 2 };

/** When what was reached, in seconds since the worker's process was started. */
interface Start {
  /** The program is loaded, the device is open and measured, the coordinator let the worker in. */
  readonly joined: number;
  readonly linked: number;
  readonly step: number;
}

/** Reads a process's events to their end; `at` hears of each. */
function follow({ events }: Running, at: (event: string) => void): Promise<void> {
  return (async () => {
    for await (const { event, type } of events) at(String(event ?? type));
  })().catch(() => {}); // it was ended
}

/** One start with caches in `caches`. */
async function start(folder: string, caches: string, denoDir: string): Promise<Start> {
  const state = await Deno.makeTempDir({ dir: folder }), path = join(folder, `${crypto.randomUUID()}.toml`);
  await Deno.writeTextFile(path, recipe("start", 1, { model: "demo", steps: 1, batch: 8, sequence: 128 }));
  const up = volary("up", ["up", "--port", "0", "--state", state]);
  let worker: Running | undefined, run: Running | undefined;
  try {
    const first = await up.events.next(), upEnds = follow(up, () => {});
    run = volary("run", ["run", path, "--state", state, "--workers", "1"]);
    const waiting = Promise.withResolvers<void>(), stepped = Promise.withResolvers<number>();
    const runEnds = follow(run, (event) => {
      if (event === "waiting") waiting.resolve();
      if (event === "step") stepped.resolve(performance.now());
    });
    await Promise.race([waiting.promise, runEnds]);
    const times = new Map<string, number>(), began = performance.now();
    worker = volary("worker", ["join", String(first.value!.invite), "--name", "w"], {
      env: { XDG_CACHE_HOME: caches, XDG_CONFIG_HOME: caches, DENO_DIR: denoDir },
    });
    const workerEnds = follow(worker, (event) => times.set(event, performance.now()));
    const step = await Promise.race([
      stepped.promise,
      ...[runEnds, workerEnds, upEnds].map((end) =>
        end.then(() => {
          throw new Error(`It ended before the first step: ${[up, run!, worker!].map((one) => one.said())}`);
        })
      ),
    ]);
    const at = (event: string) => ((times.get(event) ?? NaN) - began) / 1000;
    return { joined: at("joined"), linked: at("linked"), step: (step - began) / 1000 };
  } finally {
    await run?.end();
    await worker?.end();
    await up.end();
  }
}

/** Where Deno keeps modules: it follows the folder of caches unless told. */
async function denoDirectory(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}

/** Measures and prints. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  await withText(async (folder) => {
    const denoDir = await denoDirectory(), cold: Start[] = [], warm: Start[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      const caches = await Deno.makeTempDir({ dir: folder });
      cold.push(await start(folder, caches, denoDir));
      for (let i = 0; i < WARM; i++) warm.push(await start(folder, caches, denoDir));
    }
    const middle = (starts: Start[]) => ({
      joined: median(starts.map(({ joined }) => joined)),
      linked: median(starts.map(({ linked }) => linked)),
      step: median(starts.map(({ step }) => step)),
    });
    const result = { cold: middle(cold), warm: middle(warm) };
    record(result);
    const row = (name: "cold" | "warm") => {
      const { joined, linked, step } = result[name];
      return [name, ...[joined, linked, step].map((s) => `${s.toFixed(2)} s`), `(wanted ${WANTED[name]} s)`];
    };
    print(...table([["", "joined", "loaded", "first step", ""], row("cold"), row("warm")]));
  });
}
