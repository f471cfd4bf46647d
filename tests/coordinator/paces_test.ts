/** What steps show of workers, and that plans follow it. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { assumedCluster, choosePlan } from "../../coordinator/choose_plan.ts";
import { Paces } from "../../coordinator/paces.ts";
import { levelled, type PlanRequest } from "../../coordinator/planner.ts";
import { timesAsFast } from "../../mesh/speed.ts";
import { parseConfig } from "../../model/config.ts";

const config = parseConfig({
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 12,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  vocab_size: 259,
});
const profile = { flops: 1e10, bandwidth: 1e10, launch: 1e-5, memory: 2 ** 32, deviceName: "alike" };
const request: Omit<PlanRequest, "workers"> = {
  run: "r",
  generation: 1,
  config,
  shape: { batch: 4, sequence: 256, microbatches: 8 },
  recompute: false,
};
const layersOf = (workers: PlanRequest["workers"]) =>
  new Map(
    choosePlan({ ...request, workers }).plan.pipelines[0].stages.map((
      { worker, from, to },
    ) => [worker, to - from]),
  );

Deno.test("a pace follows what steps show, smoothly, and nonsense leaves it", () => {
  const paces = new Paces();
  assertEquals(paces.of("a"), undefined);
  paces.learn("a", 1, 3);
  assertAlmostEquals(paces.of("a")!, 3);
  for (const [predicted, measured] of [[0, 1], [1, NaN], [1, Infinity], [1, -1], [1, 0]]) {
    paces.learn("a", predicted, measured);
  }
  assertAlmostEquals(paces.of("a")!, 3);
  paces.learn("a", 1, 300);
  assert(paces.of("a")! < 5, "one slow step hardly counts");
  for (let i = 0; i < 60; i++) paces.learn("a", 2, 2);
  assertAlmostEquals(paces.of("a")!, 1, 0.01);
  paces.learn("b", 1e-9, 1);
  assertAlmostEquals(paces.of("b")!, 64, 1e-9);
});

Deno.test("equal devices share their measured speed, but each has its own pace and its own share", () => {
  const [a, b, c] = levelled([
    { id: "a", profile },
    { id: "b", profile: { ...profile, flops: 2e10 }, pace: 2 },
    { id: "c", profile: { ...profile, ...timesAsFast(profile, 0.25), lent: { share: 0.25 } } },
  ]);
  const common = (1e10 * 2e10 * 1e10) ** (1 / 3);
  assertAlmostEquals(a.profile.flops / common, 1);
  assertAlmostEquals(b.profile.flops / common, 0.5);
  assertAlmostEquals(b.profile.bandwidth! / 0.5e10, 1);
  assertAlmostEquals(b.profile.launch! / 2e-5, 1);
  assertAlmostEquals(c.profile.flops / common, 0.25);
});

Deno.test("a plan gives layers by what is lent, and moves them to whom steps show to be faster", () => {
  const shares = [1, 0.5, 0.25].map((share, w) => ({
    id: `w${w}`,
    profile: {
      ...profile,
      ...timesAsFast(profile, share),
      ...(share < 1 ? { lent: { share } } : {}),
    },
  }));
  const lent = layersOf(shares);
  assert(lent.get("w0")! >= 6 && lent.get("w2")! <= 2, `${[...lent]}`);
  const turned = layersOf([{ ...shares[0], pace: 4 }, shares[1], { ...shares[2], pace: 0.25 }]);
  assert(turned.get("w2")! >= 6 && turned.get("w0")! <= 3, `${[...turned]}`);
});

Deno.test("launches count in a prediction, and what a worker sends is bounded by what it lends", () => {
  const workers = ["a", "b"].map((id) => ({ id, profile: { ...profile, lent: { sending: 1e6 } } }));
  const seconds = (launch: number) =>
    choosePlan({
      ...request,
      stages: 1,
      workers: workers.map((worker) => ({ ...worker, profile: { ...worker.profile, launch } })),
    }).seconds!;
  assert(
    seconds(1e-3) > seconds(0) + 8 * 12 * 20 * 1e-3,
    "more than twenty calls for each layer and microbatch",
  );
  assertEquals(assumedCluster(workers)!.workers.map(({ up }) => up), [1e6, 1e6]);
  const paces = new Paces();
  paces.learnLink("b", "a", NaN);
  assertEquals(paces.roundTrip("a", "b"), undefined);
  paces.learnLink("b", "a", 3);
  const near = assumedCluster(workers, (a, b) => paces.roundTrip(a, b))!;
  assertEquals(near.link(0, 1)!.latency, 0.0015);
});
