import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { published, publishedSeconds, routesOf, rulesOf, stages } from "../../bench/skippipe_case.ts";
import { type Route, routeRound, type RouteRules } from "../../coordinator/route_round.ts";
import { searchRoutes } from "../../coordinator/route_search.ts";
import { simulate } from "../../coordinator/simulator.ts";

const plain: RouteRules = {
  forward: () => 1,
  backward: 2,
  head: 0.5,
  link: () => ({ latency: 0.25, bandwidth: Infinity }),
  bytes: 1,
  memory: 2,
  pause: 0,
  order: "backward",
};

Deno.test("the published paths under the published rules take the published time, within 2 %", async () => {
  for (const [i, forward] of [0.44, 1.76].entries()) {
    const rules = await rulesOf("published", forward);
    for (const name of ["conflictAware", "conflictUnaware"] as const) {
      const { seconds } = routeRound(20, routesOf(published[name]), rules);
      const ratio = seconds / publishedSeconds[name][i];
      assert(Math.abs(ratio - 1) < 0.02, `${name} at ${forward} s: ${seconds} s`);
    }
  }
});

Deno.test("a microbatch alone: forward, head, backward, and every way between", () => {
  const { seconds, spans } = routeRound(3, [[0, 2, 1]], plain);
  assertEquals(seconds, 3 + 0.5 + 6 + 6 * 0.25);
  assertEquals(spans.map(({ worker, work }) => `${worker} ${work}`), [
    "0 forward",
    "2 forward",
    "1 forward",
    "0 head",
    "1 backward",
    "2 backward",
    "0 backward",
  ]);
});

Deno.test("a worker never holds more microbatches than its memory allows", async () => {
  const rules = await rulesOf("ours", 0.44);
  const { spans, seconds } = routeRound(20, routesOf(published.random), rules);
  assert(seconds < Infinity);
  const held = new Array<number>(20).fill(0);
  const events = spans.flatMap(({ worker, work, start, end }) =>
    work === "forward"
      ? [{ at: start, worker, by: 1 }]
      : work === "backward"
      ? [{ at: end, worker, by: -1 }]
      : []
  ).sort((a, b) => a.at - b.at || a.by - b.by);
  for (const { worker, by } of events) assert((held[worker] += by) <= rules.memory);
});

Deno.test("routes that wait for each other's memory never end, and say so", () => {
  const routes: Route[] = [[0, 1], [1, 0]];
  assertEquals(routeRound(2, routes, { ...plain, memory: 1 }).seconds, Infinity);
  assert(routeRound(2, routes, plain).seconds < Infinity);
});

Deno.test("the order that came out, as fixed lists, takes the same time on the simulator's clock", async () => {
  for (const forward of [0.44, 1.76]) {
    const rules = await rulesOf("ours", forward);
    for (const routes of Object.values(published)) {
      const round = routeRound(20, routesOf(routes), rules);
      const timeline = simulate({ lists: round.lists, link: rules.link, trace: true });
      assertAlmostEquals(timeline.seconds, round.seconds, 1e-9);
      const order = (spans: typeof round.spans, w: number) =>
        spans.filter(({ worker }) => worker === w).map(({ work, microbatch }) => `${work} ${microbatch}`);
      for (let w = 0; w < 20; w++) assertEquals(order(timeline.spans, w), order(round.spans, w));
    }
  }
});

Deno.test("a search keeps what a round must do and is never worse than its start", async () => {
  const rules = await rulesOf("ours", 0.44), start = routesOf(published.random);
  const options = { workers: 20, stages, rules, ordered: false, freeStarts: false, seed: 1, changes: 3_000 };
  const { routes, seconds } = searchRoutes(start, options);
  assert(seconds < routeRound(20, start, rules).seconds * 0.95);
  assertAlmostEquals(routeRound(20, routes, rules).seconds, seconds, 1e-12);
  const stageOf = (worker: number) => stages.findIndex((holders) => holders.includes(worker));
  const visits = (all: readonly Route[]) =>
    stages.map((_, s) => all.flat().filter((worker) => stageOf(worker) === s).length);
  const starts = (all: readonly Route[]) => stages[0].map((w) => all.filter(([first]) => first === w).length);
  assertEquals(visits(routes), visits(start));
  assertEquals(starts(routes), starts(start));
  for (const route of routes) assertEquals(new Set(route.map(stageOf)).size, 4, "four different stages");
});
