/**
 * A mesh on memory links in a process of its own, for bench/mesh.ts: a coordinator and workers, each with its device on a
 * thread. Arguments: recipe, folder for runs, number of workers. Prints the run's events, one JSON object a line, and the
 * resident memory after each step.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { Coordinator } from "../coordinator/coordinator.ts";
import { control } from "../mesh/control.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { limits } from "../mesh/limits.ts";
import { memoryChannelPair, MemoryHub } from "../mesh/memory_transport.ts";
import { FromCoordinator, type FromWorker } from "../mesh/messages.ts";
import { openComputeThread } from "../worker/compute_client.ts";
import { startWorker } from "../worker/worker.ts";

const [recipe, runs, count] = Deno.args;
const runtime = denoRuntime();
const coordinator = new Coordinator({
  runtime,
  admission: { matches: () => true, expires: () => undefined, mesh: "bench" },
});
const hub = new MemoryHub(runtime);
const workers = Array.from({ length: Number(count) }, (_, w) => {
  const [ours, theirs] = memoryChannelPair({ maxMessage: limits.messageBytes });
  coordinator.admit(ours);
  return startWorker({
    clock: runtime,
    transport: hub.transport(),
    control: control<typeof FromCoordinator, FromWorker>(theirs, FromCoordinator, runtime),
    compute: (exchanger) => openComputeThread({ device: "auto" }, exchanger),
    name: `w${w}`,
    secret: "bench",
    software: "bench",
  });
});
const outcome = await coordinator.run({
  recipe: await Deno.readTextFile(recipe),
  resolve: (path) => join(dirname(recipe), path),
  runs,
  resume: false,
  resumeCommand: "",
}, {
  workers: workers.length,
  tell: (event) => {
    const rss = event.event === "step" ? { rss: Deno.memoryUsage().rss } : {};
    console.log(JSON.stringify({ ...event, ...rss }));
  },
});
await coordinator.close("done");
await Promise.all(workers.map((worker) => worker.ended.catch(() => {})));
Deno.exit(outcome.event === "done" ? 0 : 1);
