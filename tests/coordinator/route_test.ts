import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  published,
  publishedSeconds,
  routesOf,
  rulesOf,
  stages,
} from "../../bench/schedules/skippipe_case.ts";
import { type Route, routeRound, type RouteRules } from "../../coordinator/routes/route_round.ts";
import { searchPipelines, searchRoutes } from "../../coordinator/routes/route_search.ts";
import { RouteClock } from "../../coordinator/routes/route_times.ts";
import { simulate } from "../../coordinator/simulator/simulator.ts";
import { randomStream } from "../../model/random.ts";

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

Deno.test("the clock of searches agrees with the round to the last bit", async () => {
  const random = randomStream(1, "routes"), slower = Array.from({ length: 20 }, (_, w) => [1, 2, 4][w % 3]);
  for (const order of ["arrival", "backward"] as const) {
    const rules = { ...await rulesOf("ours", 0.44, slower), order }, clock = new RouteClock(20, 30, rules);
    for (const visits of [2, 4, 6, 6]) {
      const routes = Array.from(
        { length: 30 },
        () => stages.slice(0, visits).map((holders) => holders[random.integer(holders.length)]),
      );
      const { seconds, spans } = routeRound(20, routes, rules), times = clock.run(routes);
      assertEquals(times.seconds, seconds);
      const done = new Array<number>(30).fill(0);
      for (const { microbatch, end } of spans) done[microbatch] = Math.max(done[microbatch], end);
      const late = (done.reduce((sum, end) => sum + (end / seconds) ** 8, 0) / 30) ** (1 / 8) * seconds;
      assertAlmostEquals(times.late, late, 1e-9 * late);
    }
  }
  const stuck = new RouteClock(2, 2, { ...plain, memory: 1 });
  assertEquals(stuck.run([[0, 1], [1, 0]]).seconds, Infinity);
  assertEquals(
    stuck.run([[0, 1], [0, 1]]).seconds,
    routeRound(2, [[0, 1], [0, 1]], { ...plain, memory: 1 }).seconds,
  );
  assertThrows(() => new RouteClock(2, 2, { ...plain, pause: 0.1 }), RangeError, "routeRound");
});

Deno.test("where stages may have other numbers of workers, every worker is still in one and none is empty", async () => {
  const rules = await rulesOf("ours", 0.44, Array.from({ length: 20 }, (_, w) => [1, 2, 4][w % 3]));
  const start = Array.from({ length: 30 }, (_, m) => stages.map((holders) => holders[m % holders.length]));
  const options = { workers: 20, stages, rules, ordered: true, freeStarts: true, freePlaces: true, seed: 1 };
  const kept = searchRoutes(start, { ...options, changes: 6_000 });
  const free = searchRoutes(start, { ...options, freeCounts: true, heat: 0.008, changes: 6_000 });
  assertEquals(kept.stages.map(({ length }) => length), stages.map(({ length }) => length));
  assert(free.stages.some(({ length }, s) => length !== stages[s].length));
  assertEquals(free.stages.flat().toSorted((a, b) => a - b), Array.from({ length: 20 }, (_, w) => w));
  for (const route of free.routes) {
    route.forEach((worker, s) => assert(free.stages[s].includes(worker), `worker ${worker} has stage ${s}`));
  }
  assertAlmostEquals(routeRound(20, free.routes, rules).seconds, free.seconds, 1e-12);
  const many = { workers: 20, stages, rules, seed: 1, changes: 1_000, starts: 2 };
  const best = searchPipelines(start, many);
  const one = searchRoutes(start, { ...options, freeCounts: true, heat: 0.006, changes: 1_000 });
  assert(best.seconds < one.seconds, "several starts and a longer search");
  assertEquals(searchPipelines(start, many), best);
});
