/** Experts on other workers: no deadlock, the order of requests, and what is refused. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { FrameHeader } from "../../mesh/tensors/frame.ts";
import { sliceFor } from "../../mesh/plan.ts";
import { GenerationOverError } from "../../worker/errors.ts";
import { Coding } from "../../worker/coding.ts";
import { ExpertServer } from "../../worker/experts.ts";
import { Roads } from "../../worker/roads.ts";
import { sizesOf } from "../../worker/sizes.ts";
import { FakeCompute, HIDDEN } from "./fake_compute.ts";
import { smallMesh, stagesOfTwo, tinyModel, tinyPlan, twoStages } from "./small_mesh.ts";

Deno.test("two workers that host each other's experts finish their rounds", async () => {
  // Both wait inside a pass for the other's experts, in training and in evaluation; without serving meanwhile neither
  // would go on.
  const stages = stagesOfTwo([["a", "b"], ["a", "b"]]);
  const computes = { a: new FakeCompute({ exchanges: true }), b: new FakeCompute({ exchanges: true }) };
  const plan = tinyPlan({ stages, operations: twoStages(4), model: tinyModel(2, 2) }, 4);
  const mesh = smallMesh(plan, computes);
  await mesh.start();
  mesh.round(0);
  mesh.round(1, "evaluate");
  mesh.round(2);
  for (const round of [0, 2]) {
    await mesh.heard("a", "vote");
    await mesh.heard("b", "vote");
    mesh.decide(round);
    if (round === 0) await mesh.heard("b", "evaluated");
  }
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
  const hosted = (compute: FakeCompute) => compute.calls.filter((call) => call.startsWith("host"));
  const passes = (layer: number) => {
    const of = (pass: string) => [0, 1, 2, 3].map((m) => `host ${pass} ${layer}.${m} [1]`);
    return [...of("forward"), ...of("backward"), ...of("forward"), ...of("forward"), ...of("backward")];
  };
  assertEquals(hosted(computes.a), passes(1));
  assertEquals(hosted(computes.b), passes(0));
});

Deno.test("while a pass waits for another worker's experts the next pass computes", async () => {
  const next = Promise.withResolvers<void>();
  const a = new FakeCompute({
    exchanges: true,
    before: (call) => {
      if (call.startsWith("forward 0.1")) next.resolve();
    },
  });
  // The host answers the first pass only once the second one is under way.
  const h = new FakeCompute({
    before: (call) => call.startsWith("host forward 0.0") ? next.promise : undefined,
  });
  const computes = { a, b: new FakeCompute({ exchanges: true }), h };
  const stages = stagesOfTwo([["h"], ["h"]]);
  const operations = { ...twoStages(), h: { train: [{ do: "vote" as const }], evaluate: [] } };
  const mesh = smallMesh(tinyPlan({ stages, operations, model: tinyModel(2, 1) }), computes);
  await mesh.start();
  mesh.round(0);
  for (const worker of ["a", "b", "h"]) await mesh.heard(worker, "vote");
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
});

Deno.test("a host without layers votes after the last of its guests' rows, and serves a round only when its own step is done", async () => {
  const stages = stagesOfTwo([["h"], ["h"]]);
  const operations = { ...twoStages(), h: { train: [{ do: "vote" as const }], evaluate: [] } };
  const stepping = Promise.withResolvers<void>(), began = Promise.withResolvers<void>();
  const computes = {
    a: new FakeCompute({ exchanges: true }),
    b: new FakeCompute({ exchanges: true }),
    h: new FakeCompute({
      before: (call) => {
        if (!call.startsWith("step 1 ")) return;
        began.resolve();
        return stepping.promise;
      },
    }),
  };
  const mesh = smallMesh(tinyPlan({ stages, operations, model: tinyModel(2, 1) }), computes);
  await mesh.start();
  mesh.round(0);
  mesh.round(1);
  for (const worker of ["a", "b", "h"]) await mesh.heard(worker, "vote");
  const calls = computes.h.calls;
  assertEquals(calls.filter((call) => call.startsWith("host")).length, 8);
  assertEquals(calls.at(-1), "finish");
  mesh.decide(0);
  await began.promise;
  // Worker a is in round 1 by now and asks; the host still has the old weights.
  while (computes.a.calls.filter((call) => call.startsWith("forward 0.0")).length < 2) {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(calls.at(-1), "step 1 commit");
  stepping.resolve();
  for (const worker of ["a", "b", "h"]) await mesh.heard(worker, "vote");
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
});

Deno.test("a host answers before the gradients of its weights, and ends a share only behind them", async () => {
  const next = Promise.withResolvers<void>(), last = Promise.withResolvers<void>();
  const a = new FakeCompute({
    exchanges: true,
    // The pass that was answered has ended: its rows did not wait for the host's weights.
    before: (call) => call.startsWith("backward 0.1") ? next.resolve() : undefined,
  });
  const h = new FakeCompute({
    before: (call) => {
      if (call === "weights of guests 0.0") return next.promise;
      if (call === "weights of guests 0.1") return last.promise;
    },
  });
  const computes = { a, b: new FakeCompute({ exchanges: true }), h };
  const operations = {
    ...twoStages(),
    h: { train: [{ do: "fold" as const }, { do: "vote" as const }], evaluate: [] },
  };
  const stages = stagesOfTwo([["h"], ["h"]]);
  const mesh = smallMesh(tinyPlan({ stages, operations, model: tinyModel(2, 1) }), computes);
  await mesh.start();
  mesh.round(0);
  for (const worker of ["a", "b"]) await mesh.heard(worker, "vote");
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(h.calls.at(-1), "weights of guests 0.1");
  last.resolve();
  await mesh.heard("h", "vote");
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
  assertEquals(h.calls.slice(-2), ["fold", "finish"]);
  for (const layer of [0, 1]) {
    const ofLayer = h.calls.filter((call) =>
      call.startsWith(`host backward ${layer}.`) || call.startsWith(`weights of guests ${layer}.`)
    );
    assertEquals(
      ofLayer,
      [0, 1].flatMap((m) => [`host backward ${layer}.${m} [1]`, `weights of guests ${layer}.${m}`]),
    );
  }
});

/** A host of experts 1 and 2 of layer 0, whose stage is on worker a, in round 5. */
function host(script: ConstructorParameters<typeof FakeCompute>[0] = {}) {
  const stages = stagesOfTwo([["a", "h", "h", "a"], ["b", "b", "b", "b"]]);
  const operations = { ...twoStages(), h: { train: [{ do: "vote" as const }], evaluate: [] } };
  const plan = tinyPlan({ stages, operations, model: { ...tinyModel(2, 4), num_experts_per_tok: 2 } });
  const slice = sliceFor(plan, "h"), compute = new FakeCompute(script), faults: Error[] = [];
  const roads = new Roads(1, new Coding(slice, undefined), () => {});
  const server = new ExpertServer(slice, sizesOf(slice), roads, compute, (error) => faults.push(error));
  server.enter(5, false);
  let consumed = 0;
  const ask = async (
    from: string,
    counts: number[],
    rows: number,
    header: Partial<FrameHeader> = {},
  ) => {
    const payload = new Uint8Array(counts.length * 4 + rows * HIDDEN * 4);
    payload.set(new Uint8Array(Uint32Array.from(counts).buffer));
    server.deliver(
      from,
      {
        what: "expert-input",
        evaluate: false,
        generation: 1,
        round: 5,
        index: 0,
        microbatch: 0,
        sequence: 0,
        ...header,
      },
      payload,
      () => consumed++,
    );
    await server.idle();
  };
  return { server, compute, faults, ask, consumed: () => consumed };
}

Deno.test("requests that do not fit the plan are refused, each with its reason, and never reach the device", async () => {
  for (
    const [from, counts, rows, header, reason] of [
      ["a", [1, 1], 3, {}, "56 bytes, but its counts say 40"],
      ["a", [1], 1, {}, "bytes, but its counts say"],
      ["a", [], 1, { index: 7 }, "layer 7: that layer of its has no experts here"],
      ["a", [1, 1], 2, { index: 1 }, "layer 1: that layer of its has no experts here"],
      ["a", [7, 0], 7, {}, "7 rows for one expert of 6 tokens"],
      ["a", [0xffff_ffff, 2], 1, {}, "4294967295 rows for one expert"],
      ["a", [1, 1], 2, { microbatch: 2 }, "there is no microbatch 2"],
      ["a", [1, 1], 2, { evaluate: true }, "round 5 is of the other mode"],
    ] as const
  ) {
    const { compute, faults, ask } = host();
    await ask(from, [...counts], rows, header);
    assertEquals(faults.length, 1);
    assertEquals(faults[0].name, "PlanViolationError");
    assertStringIncludes(faults[0].message, reason);
    assertEquals(compute.calls, []);
  }
});

Deno.test("rows from someone whose layers have no experts here are refused at once", () => {
  const { ask } = host();
  return ask("b", [1, 1], 2).then(
    () => Promise.reject(new Error("it was accepted")),
    (error) =>
      assertStringIncludes(error.message, "b sent rows for experts, but none of its layers has experts here"),
  );
});

Deno.test("requests of a round that is over are dropped and counted; those of a later round wait for it", async () => {
  const { server, compute, ask, faults, consumed } = host();
  await ask("a", [1, 1], 2, { round: 4 });
  assertEquals([server.stale, consumed()], [1, 1]);
  await ask("a", [1, 1], 2, { round: 6 });
  assertEquals([compute.calls.length, consumed()], [0, 1]);
  server.enter(6, false);
  await server.idle();
  assertEquals([compute.calls.length, consumed()], [1, 2]);
  assertEquals(faults, []);
});

Deno.test("the end of a generation rejects whoever waits for a host, and gives back what was queued", async () => {
  const { server, ask, consumed } = host();
  const finished = server.finished();
  await ask("a", [1, 1], 2, { round: 9 });
  server.close(new GenerationOverError("over"));
  assertEquals(await finished.catch((error) => error.name), "GenerationOverError");
  assertEquals(consumed(), 1);
});
