/** What a run plans over the workers that joined: the search where it wins, everyone still with a part, pins kept. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { assumedCluster, choosePlan } from "../../coordinator/planner/choose_plan.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { makePlan } from "../../coordinator/planner/planner.ts";
import type { PlanRequest } from "../../coordinator/planner/plan_request.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { type ScheduleName, scheduleNames } from "../../coordinator/schedule/schedules.ts";
import { parseConfig } from "../../model/config.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

const config = parseConfig({
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 12,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 1000,
});

/** Workers whose memory is not as fast as their arithmetic would have it: a simple proportion does not see that. */
const workers = [[1e12, 2e9], [6e11, 2e10], [3e11, 2e10]].map(([flops, bandwidth], w) => ({
  id: `w${w}`,
  profile: { flops, bandwidth, memory: 2 ** 32, deviceName: `device ${w}` },
}));
const request: PlanRequest = {
  run: "r",
  generation: 1,
  config,
  workers,
  shape: { batch: 4, sequence: 256, microbatches: 8 },
  recompute: false,
};

Deno.test("the search's plan is taken where it is predicted to be faster, and nobody is left out", () => {
  const plain = makePlan(request), chosen = choosePlan(request);
  const before = simulatePlan(plain.plan, assumedCluster(workers)!).seconds;
  assert(chosen.seconds! < 0.95 * before, `${chosen.seconds} s beside ${before} s`);
  assertEquals(chosen.idle, []);
  assertEquals(chosen.seconds, simulatePlan(chosen.plan, assumedCluster(workers)!).seconds);
  assertEquals(choosePlan(request), chosen, "the same request gives the same plan");
});

Deno.test("what the recipe pins stays, and without measured memory there is only the proportion", () => {
  const pinned: PlanRequest = { ...request, stages: 3, schedule: "1f1b" };
  assertEquals(choosePlan(pinned).plan, makePlan(pinned).plan);
  const unknown = workers.map(({ id, profile: { bandwidth: _, ...profile } }) => ({ id, profile }));
  assertEquals(choosePlan({ ...request, workers: unknown }).seconds, undefined);
});

Deno.test("every run tells what its steps took beside what was predicted", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    await mesh.run(smallRecipe({ stages: 2, steps: 8 }));
    const plan = mesh.events.find((event) => event.event === "plan")!;
    const pace = mesh.events.find((event) => event.event === "pace")!;
    assert(plan.event === "plan" && pace.event === "pace");
    assertEquals([pace.predicted, pace.steps], [plan.predicted!, 5]);
    assert(pace.measured > 0 && pace.predicted > 0);
    await mesh.run(smallRecipe({ stages: 2, steps: 8 }).replace(/^name = .*$/m, 'name = "again"'));
    const again = mesh.events.findLast((event) => event.event === "plan")!;
    assert(again.event === "plan" && again.run === "again");
    assertNotEquals(again.predicted, plan.predicted, "what steps have shown counts for the next run");
  } finally {
    await mesh.close();
  }
});

Deno.test("a run takes the fastest schedule unless the recipe names one, and tells what it compared", () => {
  // A number of microbatches that three workers divide, as the interleaved schedule wants it.
  const nine = { ...request, shape: { ...request.shape, microbatches: 9 } }, chosen = choosePlan(nine);
  assert(chosen.others.length > 0 && chosen.others.every(({ schedule }) => schedule !== chosen.schedule));
  const told = new Map(chosen.others.map(({ schedule, seconds }) => [schedule, seconds]));
  for (const seconds of told.values()) assert(seconds === undefined || seconds > 0.95 * chosen.seconds!);
  for (const schedule of scheduleNames) {
    const named = choosePlan({ ...nine, schedule });
    assertEquals([named.schedule, named.others], [schedule, []]);
    assert(named.seconds! >= chosen.seconds!, schedule);
    assertEquals(named.plan, makePlan({ ...nine, schedule }).plan);
  }
  const skipping = choosePlan({ ...nine, visits: 2 });
  assertEquals([skipping.schedule, skipping.others], ["skippipe", []]);
  // Stages that the recipe asks for stay as many as they are.
  assertEquals(choosePlan({ ...nine, stages: 2 }).plan.pipelines[0].stages.length, 2);
});

Deno.test("a schedule for which memory is short is not taken, and what it needs is said", () => {
  const most = (schedule: ScheduleName) =>
    Math.max(...makePlan({ ...request, schedule }).holdings.map(({ bytes }) => bytes));
  const memory = (most("1f1b") + most("gpipe")) / 2;
  assert(most("1f1b") < most("gpipe"));
  const small = workers.map((worker) => ({ ...worker, profile: { ...worker.profile, memory } }));
  const { schedule, others } = choosePlan({ ...request, workers: small });
  assert(schedule !== "gpipe");
  const { why } = others.find((other) => other.schedule === "gpipe")!;
  assert(/would need about [\d,]+ MiB and lends [\d,]+ MiB/.test(why!), why);
});

Deno.test("activations are computed again only where nothing fits without, unless the recipe says", () => {
  const { recompute: _, ...open } = request;
  const lending = (memory: number) =>
    workers.map(({ id, profile }) => ({ id, profile: { ...profile, memory } }));
  assertEquals(choosePlan(open).plan.recompute, false);
  const needs = Math.max(...makePlan(request).holdings.map(({ bytes }) => bytes));
  const spares = Math.max(...makePlan({ ...request, recompute: true }).holdings.map(({ bytes }) => bytes));
  const short = { ...open, workers: lending((needs + spares) / 2), stages: 3 };
  assertEquals(choosePlan(short).plan.recompute, true);
  assertThrows(() => choosePlan({ ...short, recompute: false }), PlanInfeasible, "recompute = true");
  const { message } = assertThrows(
    () => choosePlan({ ...short, workers: lending(spares / 2) }),
    PlanInfeasible,
  );
  assert(/although activations would be computed again.* MiB short/.test(message), message);
});

Deno.test('replicas = "auto": several pipelines where they are quicker, one where the links between them are not', () => {
  const alike = Array.from({ length: 4 }, (_, w) => ({
    id: `w${w}`,
    profile: { flops: 1e10, bandwidth: 1e11, memory: 2 ** 32, deviceName: "alike" },
  }));
  const { recompute: _, ...open } = { ...request, workers: alike };
  const over = (bandwidth: number) =>
    choosePlan({ ...open, replicas: "auto", link: () => ({ latency: 1e-2, bandwidth }) });
  const near = over(1e10), far = over(1e6);
  assert(near.plan.pipelines.length > 1, `${near.plan.pipelines.length}`);
  const single = choosePlan({ ...open, link: () => ({ latency: 1e-2, bandwidth: 1e10 }) });
  assert(near.seconds! < 0.95 * single.seconds!);
  assertEquals(near.idle, []);
  assertEquals(far.plan.pipelines.length, 1);
  assertEquals(
    choosePlan({ ...open, replicas: "auto", stages: 4 }).plan.pipelines.length,
    1,
    "what the recipe pins stays",
  );
});

Deno.test('replicas = "auto": pipelines of several stages take the schedule that suits their links', () => {
  const shape = { batch: 1, sequence: 64, microbatches: 16 };
  const alike = (memory: number) =>
    Array.from({ length: 4 }, (_, w) => ({
      id: `w${w}`,
      profile: { flops: 1e10, bandwidth: 1e11, memory, deviceName: "alike" },
    }));
  // Not enough for a worker that has the whole model, more than enough for one that has half of it.
  const whole = makePlan({ ...request, shape, workers: alike(2 ** 32).slice(0, 1) }).holdings[0].bytes;
  const link = () => ({ latency: 0.05, bandwidth: 1e10 });
  const far = { ...request, shape, workers: alike(0.95 * whole), link };
  const chosen = choosePlan({ ...far, replicas: "auto" });
  assertEquals(chosen.plan.pipelines.map(({ stages }) => stages.length), [2, 2]);
  assertEquals(chosen.schedule, "eager-1f1b");
  const plain = chosen.others.find(({ schedule }) => schedule === "1f1b")!;
  assert(chosen.seconds! < 0.95 * plain.seconds!);
  assertEquals(chosen.seconds, simulatePlan(chosen.plan, assumedCluster(far.workers, link)!).seconds);
});

Deno.test('replicas = "auto" trains', async () => {
  const mesh = await smallMesh("reference", 3);
  try {
    const { event } = await mesh.run(smallRecipe({ mesh: 'replicas = "auto"', steps: 3, microbatches: 6 }));
    assertEquals(event, "done");
  } finally {
    await mesh.close();
  }
});
