/**
 * A mesh on memory links in a process of its own, for bench/mesh/mesh.ts and bench/mesh/hetero.ts: a coordinator and workers, each
 * with its device on a thread. Arguments: recipes with commas between (run one after the other), folder for runs, number
 * of workers, device ("auto"), the share that each worker lends with commas between (everything), and whether they say so
 * ("told", otherwise "untold"), milliseconds from worker to worker (none). Prints the runs' events, one JSON object a line, and the resident memory after each step.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { Admission } from "../../coordinator/admission/admission.ts";
import { Coordinator } from "../../coordinator/coordinator.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { parseInvite } from "../../mesh/identity/invite.ts";
import { limits } from "../../mesh/limits.ts";
import { memoryChannelPair, MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { openComputeThread } from "../../worker/compute_client.ts";
import { joinOver } from "../../worker/join.ts";
import type { DeviceChoice } from "../../worker/thread_protocol.ts";

const [recipes, runs, count, device = "auto", parts = "", told = "told", latency] = Deno.args;
const shares = parts === "" ? [] : parts.split(",").map(Number);
const runtime = denoRuntime();
const admission = await Admission.inMemory(runtime);
const coordinator = new Coordinator({
  runtime,
  admission,
});
const invite = parseInvite(await admission.invite("ws://memory", { uses: Number(count) }));
const hub = new MemoryHub(
  runtime,
  latency === undefined ? {} : { latencyMs: Number(latency) },
);
const workers = await Promise.all(Array.from({ length: Number(count) }, async (_, w) => {
  const [ours, theirs] = memoryChannelPair({ maxMessage: limits.messageBytes });
  coordinator.admit(ours);
  const share = shares[w] < 1 ? shares[w] : undefined;
  return await joinOver(theirs, invite, {
    name: `w${w}`,
    ...(share !== undefined && told === "told" ? { lent: { share } } : {}),
  }, {
    clock: runtime,
    chance: runtime,
    identity: await newIdentity(),
    transport: hub.transport(),
    compute: (exchanger) => openComputeThread({ device: device as DeviceChoice, share }, exchanger),
    software: "bench",
  });
}));
let done = true;
for (const recipe of recipes.split(",")) {
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
  done &&= outcome.event === "done";
}
await coordinator.close("done");
await Promise.all(workers.map((worker) => worker.ended.catch(() => {})));
Deno.exit(done ? 0 : 1);
