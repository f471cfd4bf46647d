/**
 * A mesh on memory links in a process of its own, for bench/mesh/mesh.ts and bench/mesh/hetero.ts: a coordinator and
 * workers, each with its device on a thread. Arguments: recipes with commas between (run one after the other), folder for
 * runs, number of workers, device ("auto"), the share that each worker lends with commas between (everything), and whether
 * they say so ("told", otherwise "untold"), milliseconds from worker to worker (none). Prints the runs' events, one JSON
 * object a line, and the resident memory after each step.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { openComputeThread } from "../../worker/compute_client.ts";
import type { DeviceChoice } from "../../worker/thread_protocol.ts";
import { meshInProcess } from "./in_process.ts";

const [recipes, runs, count, device = "auto", parts = "", told = "told", latency] = Deno.args;
const shares = parts === "" ? [] : parts.split(",").map(Number);
const hub = new MemoryHub(denoRuntime(), latency === undefined ? {} : { latencyMs: Number(latency) });
const mesh = await meshInProcess(Array.from({ length: Number(count) }, (_, w) => {
  const share = shares[w] < 1 ? shares[w] : undefined;
  return {
    ...(share !== undefined && told === "told" ? { lent: { share } } : {}),
    transport: hub.transport(),
    compute: (exchanger) => openComputeThread({ device: device as DeviceChoice, share }, exchanger),
  };
}));
let done = true;
for (const recipe of recipes.split(",")) {
  const outcome = await mesh.coordinator.run({
    recipe: await Deno.readTextFile(recipe),
    resolve: (path) => join(dirname(recipe), path),
    runs,
    resume: false,
    resumeCommand: "",
  }, {
    workers: Number(count),
    tell: (event) => {
      const rss = event.event === "step" ? { rss: Deno.memoryUsage().rss } : {};
      console.log(JSON.stringify({ ...event, ...rss }));
    },
  });
  done &&= outcome.event === "done";
}
await mesh.close();
Deno.exit(done ? 0 : 1);
