/**
 * A mesh on memory links in a process of its own: a coordinator and workers, each with its device on a thread. Argument: a
 * {@linkcode ProcessMesh} as JSON. Prints the runs' events, one JSON object a line, and the resident memory after each step.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { openComputeThread } from "../../worker/compute_client.ts";
import { meshInProcess } from "./in_process.ts";
import { BESIDE, type ProcessMesh } from "./mesh_runs.ts";

const { recipes, runs, workers, device = "auto", lent, latencyMs, speeds } = JSON.parse(
  Deno.args[0],
) as ProcessMesh;
const hub = new MemoryHub(denoRuntime(), latencyMs === undefined ? {} : { latencyMs });
const mesh = await meshInProcess(Array.from({ length: workers }, (_, w) => {
  const share = lent !== undefined && lent.shares[w] < 1 ? lent.shares[w] : undefined;
  const known = speeds === undefined ? {} : { speeds: { known: speeds, beside: BESIDE } };
  return {
    ...(share !== undefined && lent?.told ? { lent: { share } } : {}),
    transport: hub.transport(),
    compute: (exchanger) => openComputeThread({ device, share, ...known }, exchanger),
  };
}));
let done = true;
for (const recipe of recipes) {
  const outcome = await mesh.coordinator.run({
    recipe: await Deno.readTextFile(recipe),
    resolve: (path) => join(dirname(recipe), path),
    runs,
    resume: false,
    resumeCommand: "",
  }, {
    workers,
    tell: (event) => {
      const rss = event.event === "step" ? { rss: Deno.memoryUsage().rss } : {};
      console.log(JSON.stringify({ ...event, ...rss }));
    },
  });
  done &&= outcome.event === "done";
}
await mesh.close();
Deno.exit(done ? 0 : 1);
