/** Experts on hosts in fewer layers: the same experts on the same hosts, fewer trips, and only where that pays. */
import { assert, assertEquals } from "@std/assert";
import { assumedCluster, choosePlan } from "../../coordinator/planner/choose_plan.ts";
import { gathered } from "../../coordinator/planner/gathered.ts";
import { makePlan } from "../../coordinator/planner/planner.ts";
import type { PlanRequest } from "../../coordinator/planner/plan_request.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { parseConfig } from "../../model/config.ts";
import type { Stage } from "../../mesh/plan.ts";

/** How many experts each worker holds of each layer. */
function counts(stages: readonly Stage[], worker: string): number[] {
  return stages.flatMap(({ experts }) =>
    experts.map((hosts) => hosts.filter((host) => host === worker).length)
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

Deno.test("hosts keep their numbers of experts, side by side, in as few layers as asked or as hold them", () => {
  const layer = ["own", "own", "own", "own", "a", "a", "b", "b"];
  const stage = {
    worker: "own",
    from: 0,
    to: 4,
    embedding: true,
    head: true,
    experts: new Array(4).fill(layer),
  };
  for (const layers of [1, 2, 3, 4]) {
    const now = gathered([stage], layers);
    for (const worker of ["own", "a", "b"]) {
      assertEquals(sum(counts(now, worker)), sum(counts([stage], worker)), `${worker} in ${layers}`);
    }
    assert(now[0].experts.every((hosts) => hosts.length === 8));
    // Sixteen experts that are away fill two layers.
    assertEquals(counts(now, "own").filter((own) => own < 8).length, Math.max(2, layers));
    for (const [l, a] of counts(now, "a").entries()) {
      assert(Math.abs(a - counts(now, "b")[l]) <= 1, "each layer has its share of both hosts' experts");
    }
  }
  assertEquals(gathered([stage], 4), [stage], "what is spread evenly stays");
  const seldom = { ...stage, experts: [layer, ...new Array(3).fill(new Array(8).fill("own"))] };
  assertEquals(gathered([seldom], 2), [seldom], "no layer asks that did not");
});

const config = parseConfig({
  model_type: "mixtral",
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_local_experts: 8,
  num_experts_per_tok: 2,
  vocab_size: 500,
});

/** Two workers with layers, and one that hosts experts at a tenth of their speed. */
const workers = [2e10, 2e10, 2e9].map((flops, w) => ({
  id: `w${w}`,
  profile: { flops, bandwidth: 1e10, launch: 1e-5, read: 1e-4, memory: 2 ** 32, deviceName: `device ${w}` },
}));

function request(latency: number): PlanRequest {
  return {
    run: "r",
    generation: 1,
    config,
    workers,
    shape: { batch: 2, sequence: 128, microbatches: 4 },
    recompute: false,
    stages: 2,
    expertHosts: 1,
    schedule: "1f1b",
    link: () => ({ latency, bandwidth: 1e8 }),
  };
}

Deno.test("a host far away is asked in fewer layers, and the step is shorter for it; one at hand in all", () => {
  const trips = (stages: readonly Stage[]) => counts(stages, "w2").filter((hosted) => hosted > 0).length;
  const far = request(0.05), plain = makePlan(far).plan, chosen = choosePlan(far);
  assertEquals(trips(plain.pipelines[0].stages), 8);
  assertEquals(trips(chosen.plan.pipelines[0].stages), 2);
  assertEquals(
    sum(counts(chosen.plan.pipelines[0].stages, "w2")),
    sum(counts(plain.pipelines[0].stages, "w2")),
  );
  assert(chosen.seconds! < 0.7 * simulatePlan(plain, assumedCluster(workers, far.link)!).seconds);
  // A slow host at hand has a layer's time for one expert, and would hold up a layer that waits for four.
  const near = choosePlan(request(1e-5));
  assertEquals(near.plan, makePlan(request(1e-5)).plan);
});
