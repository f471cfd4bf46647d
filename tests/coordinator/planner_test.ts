import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { holdings, owners } from "../../coordinator/cost/holdings.ts";
import { partSizes } from "../../coordinator/cost/memory_model.ts";
import { makePlan } from "../../coordinator/planner/planner.ts";
import type { PlanRequest } from "../../coordinator/planner/plan_request.ts";
import { ScheduleError } from "../../coordinator/schedule/schedules.ts";
import { splitLayers } from "../../coordinator/cost/split.ts";
import { layerVisits } from "../../coordinator/cost/work.ts";
import { links, Plan } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";

const dense = parseConfig({
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 6,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 30,
});
const moe = { ...dense, experts: 4, expertsPerToken: 2 };
const worker = (id: string, flops = 1e9, memory = 1e9) => ({
  id,
  profile: { flops, memory, deviceName: "a device" },
});
const request = (more: Partial<PlanRequest>): PlanRequest => ({
  run: "r",
  generation: 1,
  config: dense,
  workers: [worker("a"), worker("b")],
  shape: { batch: 2, sequence: 8, microbatches: 4 },
  recompute: false,
  ...more,
});

Deno.test("layers are cut so that the slowest stage is quickest, by trying everything", () => {
  const costs = [3, 1, 4, 1, 5, 9, 2, 6], speeds = [1, 3, 2], first = 2, last = 7;
  const time = (cuts: number[]) =>
    Math.max(...speeds.map((speed, w) => {
      const sum = costs.slice(cuts[w], cuts[w + 1]).reduce((a, b) => a + b, 0);
      return (sum + (w === 0 ? first : 0) + (w === 2 ? last : 0)) / speed;
    }));
  let best = Infinity;
  for (let a = 1; a < 7; a++) for (let b = a + 1; b < 8; b++) best = Math.min(best, time([0, a, b, 8]));
  assertEquals(time(splitLayers(costs, speeds, first, last)), best);
});

Deno.test("faster workers hold more layers, and a plan is a valid message", () => {
  const { plan, holdings } = makePlan(request({ workers: [worker("slow", 1e9), worker("fast", 4e9)] }));
  assertEquals(plan.pipelines[0].stages.map((s) => s.worker), ["fast", "slow"]);
  assert(plan.pipelines[0].stages[0].to >= 4);
  assertEquals(plan.pipelines[0].stages.at(-1)!.to, 6);
  Plan.parse(plan);
  const all = holdings.reduce((sum, holding) => sum + holding.parameters, 0);
  assertEquals(all, owners(dense, plan).reduce((n, t) => n + t.shape.reduce((a, b) => a * b, 1), 0));
});

Deno.test("experts lie on the layer's worker and on the hosts, every one exactly once", () => {
  const workers = ["a", "b", "c", "d"].map((id) => worker(id));
  const { plan, idle } = makePlan(request({ config: moe, workers, stages: 2, expertHosts: 2 }));
  assertEquals(plan.pipelines[0].stages.length, 2);
  for (const stage of plan.pipelines[0].stages) {
    for (const hosts of stage.experts) {
      assertEquals(hosts.length, 4);
      for (const host of hosts) assert(host === stage.worker || host === "c" || host === "d");
      assert(hosts.includes("c") && hosts.includes("d"), "every host has an expert of every layer");
    }
  }
  assertEquals(plan.operations.c, { train: [{ do: "vote" }], evaluate: [] });
  assertEquals(idle, []);
});

Deno.test("hosts get more experts the slower the layer's own worker is, and few where rows cost more than work", () => {
  const wide = { ...moe, layers: 2, hiddenSize: 64, intermediateSize: 4096, experts: 8 };
  const hosted = (config: typeof moe, owner: number) => {
    const workers = [worker("a", owner), {
      ...worker("h", 1e9),
      profile: { ...worker("h").profile, deviceName: "other" },
    }];
    const { plan } = makePlan(request({ config, workers, stages: 1, expertHosts: 1 }));
    return plan.pipelines[0].stages[0].experts.flat().filter((host) =>
      host !== plan.pipelines[0].stages[0].worker
    ).length;
  };
  assertEquals(hosted({ ...moe, layers: 2, experts: 8 }, 2e9), 2, "one a layer");
  const equal = hosted(wide, 1.01e9), strong = hosted(wide, 8e9);
  assert(equal > strong && strong >= 2, `${equal} with an equal worker, ${strong} with a fast one`);
});

Deno.test("equal devices that disturbed each other's measurement get equal parts, unequal ones do not", () => {
  const split = (...flops: number[]) =>
    makePlan(request({ workers: flops.map((speed, i) => worker(`w${i}`, speed)) })).plan.pipelines[0].stages
      .map(({ worker, from, to }) => [worker, to - from]);
  assertEquals(split(1e9, 2.7e9), [["w0", 3], ["w1", 3]]);
  assertEquals(split(1e9, 5e9), [["w1", 5], ["w0", 1]]);
});

Deno.test("a shared expert belongs to its layer's stage, and counts there", () => {
  const sharing = { ...moe, sharedExpert: 40 };
  const workers = "abcd".split("").map((id) => worker(id));
  const { plan } = makePlan(request({ config: sharing, stages: 2, expertHosts: 2, workers }));
  for (const { name, layer, owner } of owners(sharing, plan)) {
    if (!name.includes("shared_expert")) continue;
    assertEquals(
      owner,
      plan.pipelines[0].stages.find(({ from, to }) => from <= layer && layer < to)!.worker,
      name,
    );
  }
  const [before, after] = [moe, sharing].map((config) => holdings(config, plan));
  for (const [i, { worker, stages, parameters, bytes }] of after.entries()) {
    const layers = stages.reduce((sum, { from, to }) => sum + to - from, 0);
    assertEquals(parameters - before[i].parameters, layers * 3 * 40 * 16, worker);
    assertEquals(bytes > before[i].bytes, stages.length > 0, worker);
  }
  const { layer, expert } = partSizes(sharing), plain = partSizes(moe);
  assertEquals([layer - plain.layer, expert], [3 * 40 * 16, plain.expert]);
});

Deno.test("workers without a part are named", () => {
  const workers = ["a", "b", "c"].map((id) => worker(id));
  assertEquals(makePlan(request({ workers, stages: 2 })).idle, ["c"]);
});

Deno.test("zero-bubble V: the first worker holds both ends, hosts come behind the workers with layers", () => {
  const workers = "abcd".split("").map((id) => worker(id));
  const schedule = "zero-bubble-v";
  const places = (more: Partial<PlanRequest>) =>
    makePlan(request({ workers, schedule, ...more })).plan.pipelines[0].stages.map((stage) => stage.worker)
      .join("");
  assertEquals(places({}), "abccba");
  assertEquals(places({ stages: 4 }), "abba");
  const { plan, holdings, idle } = makePlan(
    request({ workers, schedule, config: moe, stages: 4, expertHosts: 1 }),
  );
  Plan.parse(plan);
  assertEquals(idle, ["d"]);
  assertEquals(holdings.map(({ worker, stages }) => [worker, stages.length]), [["a", 2], ["b", 2], ["c", 0]]);
  for (const stage of plan.pipelines[0].stages) {
    for (const hosts of stage.experts) {
      assert(
        hosts.includes("c") && hosts.every((host) => host === stage.worker || host === "c"),
        hosts.join(),
      );
    }
  }
});

Deno.test("a plan's memory is that of its schedule: GPipe keeps all microbatches, a split pass its gradients", () => {
  const workers = [worker("a"), worker("b")], shape = { batch: 2, sequence: 512, microbatches: 8 };
  const most = (schedule: PlanRequest["schedule"], recompute = false) =>
    Math.max(
      ...makePlan(request({ workers, shape, schedule, recompute })).holdings.map(({ bytes }) => bytes),
    );
  const [gpipe, plain, split] = (["gpipe", "1f1b", "zero-bubble-v"] as const).map((name) => most(name));
  assert(gpipe > 3 * plain, `${gpipe} against ${plain}`);
  assert(split >= plain && split < 1.5 * plain, `${split} against ${plain}`);
  const memory = Math.ceil(plain);
  const error = assertThrows(
    () =>
      makePlan(
        request({ workers: workers.map(({ id }) => worker(id, 1e9, memory)), shape, schedule: "gpipe" }),
      ),
    PlanInfeasible,
  );
  assertStringIncludes(error.message, "MiB short");
});

Deno.test("microbatches that leave stages out: the head lies with the first stage, and all that exchange are linked", () => {
  const workers = "abcd".split("").map((id) => worker(id));
  const { plan, holdings } = makePlan(request({ workers, visits: 2 }));
  Plan.parse(plan);
  assertEquals(plan.pipelines[0].stages.map(({ worker }) => worker).join(""), "abcda");
  assert(holdings[0].stages.at(-1)!.head);
  // Behind the first stage the second comes twice in four microbatches, the others once each.
  const [a, b, c, d] = plan.pipelines[0].stages.map(({ from, to }) => to - from);
  assertEquals(layerVisits(plan), 4 * a + 2 * b + c + d);
  const pairs = links(plan).map((pair) => pair.join(""));
  for (const pair of ["ab", "ac", "ad"]) assert(pairs.includes(pair), pairs.join());
  const error = assertThrows(() => makePlan(request({ workers, visits: 5 })), ScheduleError);
  assertStringIncludes(error.message, "5 of 4 stages");
});

Deno.test("microbatches that leave stages out: the same layers on fewer and unequal workers", () => {
  const spans = (workers: PlanRequest["workers"]) => {
    const { plan } = makePlan(request({ workers, stages: 3, visits: 2 }));
    return plan.pipelines[0].stages.map(({ from, to }) => [from, to]);
  };
  const equal = spans("abc".split("").map((id) => worker(id)));
  assertEquals(equal, [[0, 2], [2, 4], [4, 6], [6, 6]]);
  assertEquals(spans([worker("a")]), equal);
  assertEquals(spans([worker("a", 9e9), worker("b", 1e9)]), equal);
  assertEquals(spans([worker("a", 9e9), worker("b", 1e9), worker("c", 2e9)]), equal);
});

const infeasible: [what: string, more: Partial<PlanRequest>, says: string][] = [
  ["no workers", { workers: [] }, "No worker has joined"],
  ["more stages than layers", { stages: 7 }, "7 stages are more than the model's 6 layers"],
  ["more parts than workers", { stages: 3 }, "start 1 more"],
  ["hosts of a dense model", { expertHosts: 1 }, "dense"],
  ["more hosts than experts", {
    config: moe,
    stages: 1,
    expertHosts: 5,
    workers: "abcdef".split("").map((w) => worker(w)),
  }, "4 experts"],
  [
    "an odd number of stages for two on each worker",
    { stages: 3, schedule: "zero-bubble-v" },
    "a multiple of 2",
  ],
  ["too few layers for two stages on a worker", {
    config: { ...dense, layers: 1 },
    schedule: "zero-bubble-v",
  }, "a model of 1 layer"],
  ["more stages than two workers take", { stages: 6, schedule: "zero-bubble-v" }, "start 1 more"],
  ["skipping with replicas", { visits: 1, replicas: 2 }, "leave replicas, shares and schedule out"],
  ["too little memory", { workers: [worker("a"), worker("b", 1e9, 1e5)] }, "MiB short"],
];
for (const [what, more, says] of infeasible) {
  Deno.test(`there is no plan: ${what}`, () => {
    const error = assertThrows(() => makePlan(request(more)), PlanInfeasible);
    assertStringIncludes(error.message, says);
  });
}
