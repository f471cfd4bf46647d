import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { pipelineSteps } from "../../coordinator/simulator/pipeline_steps.ts";
import {
  type Action,
  actions,
  defaultChunks,
  mostKept,
  placement,
  ScheduleError,
  type ScheduleName,
  scheduleNames,
} from "../../coordinator/schedule/schedules.ts";
import { simulate, SimulationError } from "../../coordinator/simulator/simulator.ts";

/** Most microbatches times stages that a worker holds at once, those between two halves included. */
const peakHeld = (list: readonly Action[]) => mostKept(list, () => ({ kept: 1, halved: 1 }));

/** F = B = W = 1 for all stages of a worker together, no time on links. */
function run(name: ScheduleName, workers: number, microbatches: number, chunks = defaultChunks(name)) {
  const orders = actions(name, { workers, microbatches, chunks });
  const seconds = ({ work }: Action) => (work === "backward" ? 2 : 1) / chunks;
  const lists = pipelineSteps({
    orders,
    workerOf: placement(name, { workers, chunks }),
    pieces: (action) => [{ seconds: seconds(action) }],
    bytes: () => 1,
  });
  const timeline = simulate({ lists, link: () => ({ latency: 0, bandwidth: Infinity }), trace: true });
  const idle = timeline.workers.map(({ first, last, busy }) => last - first - busy);
  return { orders, timeline, idle: Math.max(...idle) };
}

Deno.test("idle slots between a worker's first and last work, p = 4, m = 8", () => {
  const p = 4, m = 8;
  assertEquals(run("1f1b", p, m).idle, 9);
  assertEquals(run("gpipe", p, m).idle, (p - 1) * 3);
  assertAlmostEquals(run("interleaved", p, m).idle, (p - 1) * 3 / 2);
  assertAlmostEquals(run("interleaved", p, m, 4).idle, (p - 1) * 3 / 4);
  assertEquals(run("zero-bubble-v", p, m).idle, 0);
});

Deno.test("zero-bubble V keeps no more activations than 1F1B at its peak", () => {
  for (const [p, m] of [[2, 4], [4, 8], [4, 16], [8, 16], [5, 9]]) {
    // A stage of the V is half a stage of 1F1B.
    const most = (name: ScheduleName) =>
      Math.max(...run(name, p, m).orders.map((list) => peakHeld(list) / defaultChunks(name)));
    assertEquals(most("1f1b"), p);
    assert(most("zero-bubble-v") <= p, `${most("zero-bubble-v")} at p = ${p}`);
  }
});

Deno.test("zero-bubble V has no idle slot from 2p - 1 microbatches on", () => {
  for (const p of [2, 3, 4, 6, 8]) {
    for (const m of [2 * p - 1, 2 * p, 3 * p + 1]) {
      assertAlmostEquals(run("zero-bubble-v", p, m).idle, 0, 1e-9);
    }
  }
});

Deno.test("formulas of the other schedules hold elsewhere too", () => {
  for (const [p, m] of [[2, 2], [3, 6], [6, 12]]) {
    assertAlmostEquals(run("1f1b", p, m).idle, 3 * (p - 1), 1e-9);
    assertAlmostEquals(run("gpipe", p, m).idle, 3 * (p - 1), 1e-9);
    assertAlmostEquals(run("eager-1f1b", p, m).idle, 3 * (p - 1), 1e-9);
    const held = actions("eager-1f1b", { workers: p, microbatches: m, chunks: 1 }).map(peakHeld);
    assertEquals(held, held.map((_, w) => Math.min(m, 2 * (p - 1 - w) + 1)));
    for (const v of [2, 3]) assertAlmostEquals(run("interleaved", p, m, v).idle, 3 * (p - 1) / v, 1e-9);
  }
});

for (const name of scheduleNames) {
  Deno.test(`${name}: every pass once, gradients in order of microbatch, the simulated order is the listed one`, () => {
    for (const [p, m] of [[1, 1], [1, 3], [2, 2], [3, 6], [4, 4], [5, 10]]) {
      const chunks = defaultChunks(name), { orders, timeline } = run(name, p, m);
      const where = placement(name, { workers: p, chunks });
      orders.forEach((list, worker) => {
        const stages = where.flatMap((w, s) => w === worker ? [s] : []);
        for (const stage of stages) {
          for (const work of new Set(list.map((action) => action.work))) {
            const found = list.filter((a) => a.stage === stage && a.work === work).map((a) => a.microbatch);
            assertEquals(found, Array.from({ length: m }, (_, i) => i), `${work} of stage ${stage}`);
          }
        }
        const traced = timeline.spans.filter((span) => span.worker === worker)
          .map(({ work, stage, microbatch }) => ({ work, stage, microbatch }));
        assertEquals(traced, list.map(({ work, stage, microbatch }) => ({ work, stage, microbatch })));
      });
    }
  });
}

Deno.test("schedules that cannot be made say what would do", () => {
  const odd = assertThrows(() => run("interleaved", 4, 6), ScheduleError);
  assertStringIncludes(odd.message, "Use 8 microbatches");
  assertThrows(() => run("1f1b", 4, 8, 2), ScheduleError);
});

Deno.test("a list that waits for what nobody sends is named", () => {
  const error = assertThrows(
    () => simulate({ lists: [[{ do: "receive", key: "activation 1 0" }]], link: () => undefined }),
    SimulationError,
  );
  assertStringIncludes(error.message, "activation 1 0");
});
