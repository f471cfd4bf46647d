import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { type Cluster, uniformCluster } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import type { Division, Part } from "../../coordinator/planner/division.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { countDivisions } from "../../coordinator/planner/exact_search.ts";
import { findPlan, planOf } from "../../coordinator/planner/find_plan.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { Plan } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { type RandomStream, randomStream } from "../../model/random.ts";
import { everyDivision, randomCluster } from "./every_plan.ts";

function model(layers: number, experts: number, tied = false) {
  return parseConfig({
    hidden_size: 256,
    intermediate_size: 512,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 1000,
    tie_word_embeddings: tied,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: Math.min(2, experts) } : {}),
  });
}

Deno.test("the plan is as quick as the best of all divisions, on 200 random clusters", () => {
  const random = randomStream(3, "clusters");
  let simulated = 0, infeasible = 0, hosted = 0, shorter = 0;
  for (let round = 0; round < 200; round++) {
    const moe = round % 4 === 3;
    const count = 1 + random.integer(moe ? 3 : 5), layers = 1 + random.integer(moe ? 3 : 8);
    const config = model(layers, moe ? 2 + random.integer(2) : 0, random.integer(4) === 0);
    const shape = { batch: 1, sequence: 32, microbatches: 1 + random.integer(4) };
    const cluster = randomCluster(random, count, 40e6 + 3e7 * layers / count);
    const request = { run: "r", generation: 1, config, cluster, shape, recompute: random.integer(2) === 0 };
    const judge = new Judge(request);
    const all = everyDivision(count, layers, config.experts);
    assertEquals(all.length, countDivisions(count, layers, config.experts));
    let best = Infinity;
    for (const division of all) {
      const bound = judge.bound(division);
      if (bound === Infinity || judge.shortage(division) > 0) continue;
      const { seconds } = judge.simulate(division);
      assert(bound <= seconds * (1 + 1e-9), `a bound of ${bound} s above the simulated ${seconds} s`);
      best = Math.min(best, seconds);
      simulated++;
    }
    if (best === Infinity) {
      infeasible++;
      assertThrows(() => findPlan(request), PlanInfeasible);
      continue;
    }
    const found = findPlan(request);
    assert(found.exact);
    assertAlmostEquals(found.seconds / best, 1, 1e-9, `cluster ${round}`);
    assertAlmostEquals(simulatePlan(found.plan, cluster).seconds / best, 1, 1e-9);
    Plan.parse(found.plan);
    if (found.division.some(({ remote }) => remote.length > 0)) hosted++;
    if (found.division.length < count) shorter++;
  }
  // The clusters are no trivial ones.
  assert(
    simulated > 20_000 && infeasible > 5 && hosted > 2 && shorter > 20,
    `${simulated} ${infeasible} ${hosted} ${shorter}`,
  );
});

/** A random division that fits, or undefined. */
function randomDivision(random: RandomStream, judge: Judge): Division | undefined {
  const { config, cluster } = judge.setting, n = cluster.workers.length;
  const stages = 1 + random.integer(Math.min(n, config.layers)), used = new Set<number>();
  const draw = () => {
    for (;;) {
      const worker = random.integer(n);
      if (!used.has(worker)) return used.add(worker), worker;
    }
  };
  const spans = new Array<number>(stages).fill(1);
  for (let l = stages; l < config.layers; l++) spans[random.integer(stages)]++;
  const division = spans.map((layers): Part => {
    const worker = draw(), experts = random.integer(6) === 0 ? random.integer(config.experts + 1) : 0;
    return { worker, layers, remote: experts > 0 ? [[draw(), experts]] : [] };
  });
  return judge.shortage(division) === 0 && judge.bound(division) < Infinity ? division : undefined;
}

Deno.test("a thousand workers: no random plan that fits is quicker, whatever its schedule could make of it", () => {
  const random = randomStream(4, "thousand"), config = model(40, 8);
  const cluster = randomCluster(random, 1000, 2e9);
  const shape = { batch: 1, sequence: 64, microbatches: 16 };
  const request = { run: "r", generation: 1, config, cluster, shape, recompute: false };
  const found = findPlan({ ...request, effort: { changes: 3_000, starts: 2, polish: 20 } });
  assertEquals(found.exact, false);
  assertAlmostEquals(simulatePlan(found.plan, cluster).seconds, found.seconds, 1e-9);
  let fitting = 0;
  for (let i = 0; i < 3_000; i++) {
    const division = randomDivision(random, found.judge);
    if (division === undefined) continue;
    fitting++;
    assert(found.judge.bound(division) > found.seconds);
  }
  assert(fitting > 100, `${fitting}`);
});

const worker = (id: string, memory: number, flops = 1e11) => ({
  id,
  profile: { flops, bandwidth: 1e11, memory, deviceName: "" },
});
const link = { latency: 1e-3, bandwidth: 1e8 };
const request = (cluster: Cluster, experts = 0, batch = 8) => ({
  run: "r",
  generation: 1,
  config: model(6, experts),
  cluster,
  shape: { batch, sequence: 128, microbatches: 1 },
  recompute: false,
});

Deno.test("experts go to hosts where a stage's worker has no room for them", () => {
  const cluster = uniformCluster("c", [worker("a", 130e6), worker("b", 50e6), worker("c", 50e6)], link);
  const { plan, memory, division } = findPlan(request(cluster, 4, 1));
  Plan.parse(plan);
  assert(division.some(({ remote }) => remote.length > 0), JSON.stringify(division));
  for (const [w, bytes] of memory) assert(bytes <= cluster.workers[w].profile.memory);
});

const short: [what: string, cluster: Cluster, says: RegExp[]][] = [
  ["with recomputing it would fit", uniformCluster("c", [worker("a", 110e6)], link), [
    /worker a \(6 layers\) needs [\d,]+ MiB and lends 105 MiB, [\d,]+ MiB short/,
    /It fits with recompute = true/,
  ]],
  ["with smaller microbatches it would fit", uniformCluster("c", [worker("a", 86e6)], link), [
    /It fits with microbatches = \d( and recompute = true)? in the phase/,
  ]],
  ["nothing helps but memory", uniformCluster("c", [worker("a", 20e6), worker("b", 30e6)], link), [
    /with both, lend [\d,]+ MiB more on [ab]/,
    /add workers that lend [\d,]+ MiB/,
  ]],
];
for (const [what, cluster, says] of short) {
  Deno.test(`a model that does not fit: ${what}`, () => {
    const { message } = assertThrows(() => findPlan(request(cluster)), PlanInfeasible);
    for (const pattern of says) assert(pattern.test(message), message);
  });
}

Deno.test("more stages than there are layers or workers are refused", () => {
  const cluster = uniformCluster("c", [worker("a", 1e9), worker("b", 1e9)], link);
  const error = assertThrows(() => findPlan({ ...request(cluster), stages: 3 }), PlanInfeasible);
  assertStringIncludes(error.message, "at most 2");
  assertEquals(findPlan({ ...request(cluster), stages: 2 }).plan.pipelines[0].stages.length, 2);
});

Deno.test("the operations of a plan take as long on the clock as the planner says, tied embeddings included", () => {
  const cluster = randomCluster(randomStream(5, "tied"), 4, 1e9);
  const setting = {
    ...request(cluster),
    config: model(6, 4, true),
    shape: { batch: 1, sequence: 16, microbatches: 5 },
  };
  const judge = new Judge(setting);
  const division: Division = [{ worker: 2, layers: 2, remote: [[3, 2]] }, {
    worker: 1,
    layers: 3,
    remote: [],
  }, {
    worker: 0,
    layers: 1,
    remote: [[3, 4]],
  }];
  const plan = planOf(setting, division);
  assertAlmostEquals(simulatePlan(plan, cluster).seconds, judge.simulate(division).seconds, 1e-12);
});
