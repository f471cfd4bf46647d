import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { uniformCluster } from "../../coordinator/cost/cluster.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { findPlan, type FindRequest } from "../../coordinator/planner/find_plan.ts";
import { findReplicas } from "../../coordinator/planner/find_replicas.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { Plan } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { randomStream } from "../../model/random.ts";
import { quickest, randomCluster } from "./every_plan.ts";

function model(layers: number, experts: number) {
  return parseConfig({
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 300,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: 1 } : {}),
  });
}

/** A plan and what is predicted for it. */
interface FoundAny {
  readonly plan: Plan;
  /** Predicted seconds of a training round. */
  readonly seconds: number;
  /** Every plan was considered. */
  readonly exact: boolean;
}

/** Undefined where none fits. The same request always gives the same plan. */
function findAny(request: FindRequest): FoundAny | undefined {
  const alone = findAlone(request), several = findReplicas(request);
  const exact = (alone?.exact ?? true) && (several?.exact ?? true);
  const best = several === undefined || (alone !== undefined && alone.seconds <= several.seconds)
    ? alone
    : several;
  return best && { plan: best.plan, seconds: best.seconds, exact };
}

function findAlone(request: FindRequest): FoundAny | undefined {
  try {
    return findPlan(request);
  } catch (error) {
    if (error instanceof PlanInfeasible) return undefined; // it may fit where every pipeline has less to keep
    throw error;
  }
}

Deno.test("no plan is quicker: order, split, experts' places and replicas together, on 200 random clusters", () => {
  const random = randomStream(7, "replicas");
  let several = 0, unequal = 0, infeasible = 0, hosted = 0, plans = 0, simulated = 0;
  for (let round = 0; round < 200; round++) {
    const moe = round % 4 === 3, count = 1 + random.integer(moe ? 4 : 5);
    const layers = 1 + random.integer(moe ? 3 : 8);
    const config = model(layers, moe ? 2 + random.integer(2) : 0);
    const request = {
      run: "r",
      generation: 1,
      config,
      cluster: randomCluster(random, count, 6e6 + 3e6 * layers / count, round % 2 === 0 ? 1 : 1_000),
      shape: { batch: 2, sequence: 128, microbatches: 1 + random.integer(4) },
      recompute: random.integer(2) === 0,
    };
    const found = findAny(request);
    const looked = quickest(request, found?.seconds ?? Infinity, random);
    plans += looked.plans;
    simulated += looked.simulated;
    if (found === undefined) {
      assertEquals(looked.best, Infinity);
      infeasible++;
      continue;
    }
    assert(found.exact, `cluster ${round}`);
    assertAlmostEquals(found.seconds / looked.best, 1, 1e-9, `cluster ${round}`);
    assertAlmostEquals(simulatePlan(found.plan, request.cluster).seconds / found.seconds, 1, 1e-9);
    Plan.parse(found.plan);
    const { pipelines } = found.plan;
    if (pipelines.length > 1) several++;
    if (new Set(pipelines.map(({ shares }) => shares[0])).size > 1) unequal++;
    if (pipelines.some(({ stages }) => stages.some((s) => s.experts.flat().some((w) => w !== s.worker)))) {
      hosted++;
    }
  }
  assert(
    several > 20 && unequal > 5 && infeasible > 5 && hosted > 5 && simulated > 500 && plans > 100_000,
    `${several} ${unequal} ${infeasible} ${hosted} ${simulated} ${plans}`,
  );
});

Deno.test("sixteen workers are dealt in a moment, and equal ones get equal shares", () => {
  const profile = { flops: 1e11, bandwidth: 1e11, memory: 1e9, deviceName: "" };
  const workers = Array.from({ length: 16 }, (_, i) => ({ id: `w${i}`, profile }));
  const cluster = uniformCluster("c", workers, { latency: 1e-4, bandwidth: 1e10 });
  const shape = { batch: 1, sequence: 128, microbatches: 16 };
  const found = findReplicas({
    run: "r",
    generation: 1,
    config: model(4, 0),
    cluster,
    shape,
    recompute: false,
  })!;
  assertEquals(found.exact, false);
  assertEquals(new Set(found.plan.pipelines.map(({ shares }) => shares[0])).size, 1);
});
