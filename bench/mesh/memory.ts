/**
 * Does a mesh's memory stay flat over 300 steps? Three worker processes over werift, and coordinator and workers in one
 * process. Wanted: at step 300 at most 1.05 times what was resident at step 50.
 *
 * @module
 */
import { size, table } from "../../coordinator/amounts.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { inMemory, overWerift, resident, type Step, withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "resident memory of a mesh at step 300 beside step 50";

/** Steps between which memory may not grow. */
const EARLY = 50, LATE = 300;
/** Largest ratio that is wanted. */
const WANTED = 1.05;

/** Measures and prints. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  const phase = { model: "demo" as const, steps: LATE, batch: 4, sequence: 32 };
  await resident([Deno.pid]); // what is missing for it is said before anything is measured
  await withText(async (folder) => {
    const of = (steps: readonly Step[]) => {
      const early = steps[EARLY - 1].rss, late = steps[LATE - 1].rss;
      return { early, late, ratio: late / early };
    };
    const packed = of(await inMemory(folder, 3, 1, phase));
    const processes = of(await overWerift(folder, 3, phase));
    record({ packed, processes });
    const row = (name: string, { early, late, ratio }: ReturnType<typeof of>) => [
      name,
      size(early),
      size(late),
      `${ratio.toFixed(3)} (wanted ${WANTED})`,
    ];
    const head = ["resident", `step ${EARLY}`, `step ${LATE}`, "ratio"];
    const rows = [row("packed: everything in one process", packed), row("three worker processes", processes)];
    print(...table([head, ...rows]));
  });
}
