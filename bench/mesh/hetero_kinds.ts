/**
 * Two kinds of adapters in one mesh, for bench/mesh/hetero.ts: SwiftShader, which is several times slower and tuned otherwise, in a
 * worker's process beside one on the machine's own adapter, over werift.
 *
 * @module
 */
import { join } from "@std/path";
import { type Running, volary } from "../../demo/processes.ts";
import { type Ran, ran, recipe } from "./hetero_runs.ts";
import type { Line } from "./mesh_runs.ts";

/** Where browsers install SwiftShader's description for the Vulkan loader. */
const PLACES = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
];

/** SwiftShader's description on this machine; undefined where there is none. */
export async function findSwiftShader(): Promise<string | undefined> {
  for (const place of PLACES) {
    if ((await Deno.stat(place).catch(() => undefined))?.isFile) return place;
  }
  return undefined;
}

/** Runs of so many steps, one after the other; also what each worker measured of its device. */
export interface Kinds {
  readonly runs: readonly Ran[];
  readonly devices: readonly { readonly worker: string; readonly device: string; readonly flops: number }[];
}

/** Runs recipes of so many steps on two workers, one of them on the adapter that `icd` describes. */
export async function kindsRuns(
  folder: string,
  icd: string,
  lengths: readonly number[],
  width: number,
): Promise<Kinds> {
  const up = volary("up", ["up", "--port", "0", "--state", folder]);
  const joins: Running[] = [];
  const devices: Kinds["devices"][number][] = [];
  try {
    const { value: told } = await up.events.next();
    const both = Promise.withResolvers<void>();
    read(up, (line) => {
      if (line.event === "joined") {
        devices.push({
          worker: String(line.worker),
          device: String(line.device),
          flops: Number(line.flops),
        });
      }
      if (devices.length === 2) both.resolve();
    });
    const start = (name: string, env: Record<string, string>) => {
      const key = join(folder, `${name}.key`);
      const worker = volary(name, ["join", String(told!.invite), "--name", name, "--key", key], { env });
      joins.push(worker);
      read(worker, () => {});
      worker.status.then(() => both.reject(new Error(`${name} ended: ${worker.said()}`)));
    };
    // One thread for each: what is compared are kinds, not cores.
    start("own", { LP_NUM_THREADS: "1" });
    start("swiftshader", { VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd });
    await both.promise;
    const runs: Ran[] = [];
    for (const [i, steps] of lengths.entries()) {
      const name = `kinds-${i}`, path = join(folder, `${name}.toml`), events: Line[] = [];
      await Deno.writeTextFile(path, recipe(name, steps, width));
      const run = volary(name, ["run", path, "--state", folder, "--workers", "2"]);
      for await (const line of run.events) events.push(line);
      runs.push(ran(events, (worker) => worker));
    }
    return { runs, devices };
  } finally {
    for (const running of [...joins, up]) await running.end();
  }
}

/** Reads a process's events for as long as it has any: one whose pipe is full stands still. */
async function read({ events }: Running, each: (line: Line) => void): Promise<void> {
  for await (const line of events) each(line);
}
