/** Codecs for each link: those that a recipe permits, where the link is slow enough for them to win. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { choosePlan } from "../../coordinator/planner/choose_plan.ts";
import { type Cluster, uniformCluster } from "../../coordinator/cost/cluster.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { findPlan } from "../../coordinator/planner/find_plan.ts";
import type { PlanRequest } from "../../coordinator/planner/plan_request.ts";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { linkCodecs, quickestCodec } from "../../coordinator/cost/traffic.ts";
import { Plan } from "../../mesh/plan.ts";
import { CODECS } from "../../mesh/tensors/tensor_codec.ts";
import { parseConfig } from "../../model/config.ts";
import { smallRecipe } from "./small_run.ts";

const config = parseConfig({
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  vocab_size: 500,
});
const shape = { batch: 2, sequence: 128, microbatches: 4 };
const profile = { flops: 1e11, bandwidth: 1e11, memory: 2 ** 32, deviceName: "" };
const workers = ["a", "b", "c"].map((id) => ({ id, profile }));

/** From a to b a home's upload, else a local network. */
const uneven: Cluster = {
  ...uniformCluster("c", workers, { latency: 1e-3, bandwidth: 1e6 }),
  link: (x, y) => x + y === 1 ? { latency: 1e-2, bandwidth: 1e6 } : { latency: 1e-3, bandwidth: 1e10 },
};

Deno.test("of several codecs the quickest is taken, the more exact one where nothing is won", () => {
  assertEquals(quickestCodec(["bf16", "f32"], 1e6), "bf16");
  assertEquals(quickestCodec(["bf16", "f32", "int8"], 1e6), "int8");
  assertEquals(quickestCodec(["bf16", "f32"], 1e11), "f32");
  assertEquals(quickestCodec(["zstd", "f32"], 1e6), "zstd");
  assertEquals(quickestCodec(["zstd", "f32"], 1e9), "f32", "compression takes longer than the road");
  assertEquals(quickestCodec(["bf16", "f16"], 1e7), "f16", "as small, and more exact");
  assertEquals(quickestCodec(["int8"], 1e11), "int8", "one that is alone is taken");
  const codecs = linkCodecs(uneven, ["f32", "bf16"]);
  assertEquals([codecs(0, 1), codecs(1, 0), codecs(1, 2), codecs(0, 2)], ["bf16", "bf16", "f32", "f32"]);
});

Deno.test("a plan names codecs of slow links only, and is predicted with them", () => {
  const request = { run: "r", generation: 1, config, cluster: uneven, shape, recompute: false, stages: 3 };
  const exact = findPlan(request), free = findPlan({ ...request, codec: ["f32", "bf16"] });
  const all = findPlan({ ...request, codec: "bf16" });
  Plan.parse(free.plan);
  assertEquals(exact.plan.codecs, undefined);
  assert(free.seconds <= exact.seconds && free.seconds < 1.01 * all.seconds);
  assertEquals(all.plan.codecs!.length, 3);
  for (const found of [exact, free, all]) {
    assert(Math.abs(simulatePlan(found.plan, uneven).seconds / found.seconds - 1) < 1e-9);
  }
  // Over one slow link for all there is no way around it.
  const slow = { ...request, cluster: uniformCluster("s", workers, { latency: 1e-3, bandwidth: 1e6 }) };
  const rounded = findPlan({ ...slow, codec: ["f32", "bf16"] });
  assert(rounded.seconds < 0.7 * findPlan(slow).seconds);
  assertEquals(rounded.plan.codecs!.map(({ codec }) => codec), ["bf16", "bf16", "bf16"]);
  const traffic = (plan: Plan) =>
    simulatePlan(plan, slow.cluster).workers.reduce((sum, { sent }) => sum + sent, 0);
  assert(traffic(rounded.plan) < 0.52 * traffic(findPlan(slow).plan));
});

Deno.test("a run takes codecs by what its links have shown and its workers offer", () => {
  const offering = workers.map(({ id, profile }) => ({ id, profile: { ...profile, codecs: [...CODECS] } }));
  const request: PlanRequest = {
    run: "r",
    generation: 1,
    config,
    workers: offering,
    shape,
    recompute: false,
    codec: ["f32", "bf16"],
    link: (a, b) => ({ bandwidth: [a, b].sort().join() === "a,b" ? 1e6 : 1e10, latency: 1e-3 }),
  };
  const { plan, seconds } = choosePlan({ ...request, stages: 3 });
  const named = plan.codecs?.map(({ workers: [a, b], codec }) => `${a} ${b} ${codec}`);
  assertEquals(named, ["a b bf16"]);
  assert(seconds! < choosePlan({ ...request, stages: 3, codec: "f32" }).seconds!);
  assertEquals(
    choosePlan({ ...request, stages: 3, workers }).plan.codecs,
    undefined,
    "workers that offer nothing else speak f32",
  );
  const { message } = assertThrows(
    () => choosePlan({ ...request, stages: 3, workers, codec: ["bf16", "int8"] }),
    PlanInfeasible,
  );
  assert(/bf16 or int8.* a cannot write or read/.test(message), message);
});

Deno.test("a recipe permits one codec or several", () => {
  const read = (codec: string) =>
    parseRecipe(smallRecipe({ mesh: `codec = ${codec}` }), (path) => `/${path}`).mesh.codec;
  assertEquals(read('"bf16"'), "bf16");
  assertEquals(read('["f32", "bf16"]'), ["f32", "bf16"]);
  assertThrows(() => read("[]"));
  assertThrows(() => read('["f32", "f64"]'));
});
