/** What steps show of workers, and that plans follow it. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { assumedCluster, choosePlan } from "../../coordinator/planner/choose_plan.ts";
import { CoordinatorError } from "../../coordinator/errors.ts";
import { everyPair } from "../../coordinator/run/link_trial.ts";
import { Paces } from "../../coordinator/planner/paces.ts";
import { levelled } from "../../coordinator/planner/levelled.ts";
import type { PlanRequest } from "../../coordinator/planner/plan_request.ts";
import { timesAsFast } from "../../mesh/speed.ts";
import { parseConfig } from "../../model/config.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

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
/** Layers by worker, which may have several stages. */
function layersOf(workers: PlanRequest["workers"]): Map<string, number> {
  const layers = new Map<string, number>();
  for (const { worker, from, to } of choosePlan({ ...request, workers }).plan.pipelines[0].stages) {
    layers.set(worker, (layers.get(worker) ?? 0) + to - from);
  }
  return layers;
}

const who = (id: string) => ({ id, profile });

Deno.test("a pace follows what steps show, smoothly, and nonsense leaves it", () => {
  const paces = new Paces();
  assertEquals(paces.of(who("a")), undefined);
  paces.learn(who("a"), 3e9, 1, 3);
  assertAlmostEquals(paces.of(who("a"))! / 1e9, 1);
  for (const [predicted, measured] of [[0, 1], [1, NaN], [1, Infinity], [1, -1], [1, 0]]) {
    paces.learn(who("a"), 3e9, predicted, measured);
  }
  assertAlmostEquals(paces.of(who("a"))! / 1e9, 1);
  for (let i = 0; i < 30; i++) paces.learn(who("a"), 3e9, 1, 3);
  paces.learn(who("a"), 3e9, 1, 300);
  assert(paces.of(who("a"))! > 0.6e9, "one slow step hardly counts");
  for (let i = 0; i < 60; i++) paces.learn(who("a"), 2e9, 2, 2);
  assertAlmostEquals(paces.of(who("a"))! / 2e9, 1, 0.01);
  paces.learn(who("b"), 1e9, 1e-9, 1);
  assertAlmostEquals(paces.of(who("b"))! * 64 / 1e9, 1, 1e-9);
  const other = { id: "a", profile: { ...profile, deviceName: "another" } };
  assertEquals(paces.of(other), undefined);
  paces.learn(other, 5e9, 1, 1);
  assertAlmostEquals(paces.of(other)! / 5e9, 1);
  assertEquals(paces.of(who("a")), undefined);
});

Deno.test("the first steps count alike: the mean of ten is there after ten", () => {
  const paces = new Paces();
  for (let i = 0; i < 10; i++) paces.learn(who("a"), 1e9, 1, i % 2 === 0 ? 2 : 0.5);
  assertAlmostEquals(paces.of(who("a"))! / 1e9, 1, 1e-9);
});

Deno.test("a link's speed is what came in the middle of frames by the time that it took, and its latency half a trip", () => {
  const paces = new Paces(), report = { roundTrip: NaN, streamed: 0, streaming: 0 };
  paces.learnLink("b", "a", report);
  assertEquals(paces.link("a", "b"), undefined);
  paces.learnLink("b", "a", { ...report, roundTrip: 3 });
  assertEquals(paces.link("a", "b"), { workers: ["a", "b"], latency: 0.0015 });
  paces.learnLink("a", "b", { ...report, streamed: 1_000, streaming: 1 });
  assertEquals(paces.link("a", "b")!.bandwidth, undefined, "a thousand bytes say nothing");
  paces.learnLink("a", "b", { ...report, streamed: 999_000, streaming: 499 });
  assertAlmostEquals(paces.link("b", "a")!.bandwidth!, 2e6, 1);
  for (let i = 0; i < 100; i++) paces.learnLink("a", "b", { ...report, streamed: 8e6, streaming: 1_000 });
  assertAlmostEquals(paces.link("b", "a")!.bandwidth!, 8e6, 1e4);
  assertEquals(paces.links(["a", "c"]), []);
  assertEquals(paces.links(["b", "a"]).length, 1);
});

Deno.test("what was learned is there after a restart; a damaged file is named", async () => {
  let text: string | undefined;
  const keeper = {
    read: () => Promise.resolve(text),
    write: (now: string) => Promise.resolve(void (text = now)),
  };
  const paces = await Paces.open(keeper);
  paces.learn(who("a"), 1e9, 1, 2);
  paces.learnLink("a", "b", { roundTrip: 8, streamed: 1e6, streaming: 100 });
  await paces.save();
  const again = await Paces.open(keeper);
  assertEquals([again.of(who("a")), again.link("a", "b")], [paces.of(who("a")), paces.link("a", "b")]);
  text = '{"version":1,"workers":[{"worker":"a","device":"d","flops":-1,"steps":1}],"links":[]}';
  await assertRejects(() => Paces.open(keeper), CoordinatorError, "paces.json");
});

Deno.test("equal devices share their measured speed, but each has its own pace and its own share", () => {
  const [a, b, c] = levelled([
    { id: "a", profile },
    { id: "b", profile: { ...profile, flops: 2e10 }, shown: (1e10 * 2e10 * 1e10) ** (1 / 3) / 2 },
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
  const turned = layersOf([{ ...shares[0], shown: 2.5e9 }, shares[1], { ...shares[2], shown: 4e10 }]);
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
  const cluster = assumedCluster(workers, () => ({ latency: 0.0015 }))!;
  assertEquals(cluster.link(0, 1)!.latency, 0.0015);
  assert(cluster.link(0, 1)!.bandwidth > 0);
  assertEquals(assumedCluster(workers, () => ({ bandwidth: 5e6 }))!.link(0, 1)!.bandwidth, 5e6);
});

Deno.test("links are measured on demand: every two workers are neighbours once, and the plan then knows all links", async () => {
  for (let count = 2; count <= 9; count++) {
    const met = new Set(
      everyPair(count).flatMap((order) => {
        assertEquals(order.toSorted((a, b) => a - b), Array.from({ length: count }, (_, i) => i));
        return order.slice(1).map((place, i) => [order[i], place].sort((a, b) => a - b).join(" "));
      }),
    );
    assertEquals([count, met.size], [count, count * (count - 1) / 2]);
  }
  const mesh = await smallMesh("reference", 3);
  try {
    const links = await mesh.coordinator.measureLinks();
    assertEquals(links.map(({ workers }) => workers.join(" ")).sort(), ["w0 w1", "w0 w2", "w1 w2"]);
    for (const { latency, bandwidth } of links) assert(latency! >= 0 && bandwidth! > 0);
    assertEquals(mesh.coordinator.status().links, links);
    const { event } = await mesh.run(smallRecipe({ steps: 2 }));
    assertEquals(event, "done", "workers are free for a run");
  } finally {
    await mesh.close();
  }
  const lone = await smallMesh("reference", 1);
  try {
    await assertRejects(() => lone.coordinator.measureLinks(), CoordinatorError, "fewer than two workers");
  } finally {
    await lone.close();
  }
});
