/**
 * Looks for routes whose round is short: simulated annealing over small changes, judged by running the round. What a
 * round must do stays as it is: how often each stage is visited and, unless told otherwise, how many microbatches begin at
 * each first worker. On the way there it may be violated, at a price.
 *
 * @module
 */
import { type RandomStream, randomStream } from "../model/random.ts";
import { type Route, type RouteRules, routeTimes } from "./route_round.ts";

/** What may change. */
export interface RouteSearch {
  readonly workers: number;
  /** Workers that hold each stage; each worker is in one. Routes begin in stage 0. */
  readonly stages: readonly (readonly number[])[];
  readonly rules: RouteRules;
  /** Stages keep their order within a route (a full pipeline); otherwise all but the first may change places. */
  readonly ordered: boolean;
  /** How many microbatches begin at a first worker may change. */
  readonly freeStarts: boolean;
  readonly seed: number;
  /** Changes tried. */
  readonly changes: number;
}

/** The best routes found and their round's seconds; never worse than `start`. */
export function searchRoutes(
  start: readonly Route[],
  options: RouteSearch,
): { readonly routes: readonly Route[]; readonly seconds: number } {
  const { workers, rules, seed, changes } = options, random = randomStream(seed, "routes");
  const stageOf = new Array<number>(workers).fill(0);
  options.stages.forEach((holders, stage) => holders.forEach((worker) => stageOf[worker] = stage));
  const wanted = tally(start, stageOf, options);
  const wrong = (routes: readonly Route[]) =>
    tally(routes, stageOf, options).reduce((sum, count, i) => sum + Math.abs(count - wanted[i]), 0);
  // The last microbatch alone is a poor guide: most changes leave it as it is. So the others count a little, too.
  const price = ({ seconds, mean }: { readonly seconds: number; readonly mean: number }) =>
    seconds + 0.2 * mean;
  const first = routeTimes(workers, start, rules);
  let best = { routes: start, seconds: first.seconds }, now = start, cost = price(first);
  for (let i = 0; i < changes; i++) {
    const routes = change(now, stageOf, options, random);
    if (routes === undefined) continue;
    const times = routeTimes(workers, routes, rules), amiss = wrong(routes);
    const asked = price(times) + 0.01 * first.seconds * amiss,
      heat = 0.03 * best.seconds * (1 - i / changes) ** 2;
    if (!(asked <= cost) && !(random.uniform() < Math.exp((cost - asked) / heat))) continue;
    [now, cost] = [routes, asked];
    if (amiss === 0 && times.seconds < best.seconds) best = { routes, seconds: times.seconds };
  }
  return best;
}

/** Visits of each stage, then (unless they are free) beginnings at each worker. */
function tally(
  routes: readonly Route[],
  stageOf: readonly number[],
  { stages, freeStarts }: RouteSearch,
): number[] {
  const visits = new Array<number>(stages.length).fill(0), starts = new Array<number>(stageOf.length).fill(0);
  for (const route of routes) {
    starts[route[0]]++;
    for (const worker of route) visits[stageOf[worker]]++;
  }
  return freeStarts ? visits : [...visits, ...starts];
}

/** Routes after one change, or undefined where the change drawn is not possible. */
function change(
  routes: readonly Route[],
  stageOf: readonly number[],
  { stages, ordered }: RouteSearch,
  random: RandomStream,
): Route[] | undefined {
  const a = random.integer(routes.length),
    b = random.integer(routes.length),
    route = routes[a],
    k = route.length;
  // A change of one microbatch, or of all that go the same way.
  const together = random.integer(3) === 0, key = route.join();
  const same = (other: Route, m: number) => m === a || (together && other.join() === key);
  const each = (to: (other: Route) => Route) => routes.map((other, m) => same(other, m) ? to(other) : other);
  const draw = (from: readonly number[]) => from[random.integer(from.length)];
  switch (random.integer(9)) {
    case 0: { // another worker of the same stage
      const at = random.integer(k), worker = draw(stages[stageOf[route[at]]]);
      return worker === route[at] ? undefined : each((other) => other.with(at, worker));
    }
    case 1: { // stages in another order
      const i = 1 + random.integer(k - 1), j = 1 + random.integer(k - 1);
      if (ordered || i === j) return undefined;
      return each((other) => other.with(i, other[j]).with(j, other[i]));
    }
    case 2: { // another stage instead of one
      const missing = stages.flatMap((_, s) => route.some((worker) => stageOf[worker] === s) ? [] : [s]);
      if (ordered || missing.length === 0) return undefined;
      const worker = draw(stages[draw(missing)]), at = 1 + random.integer(k - 1);
      return each((other) => other.with(at, worker));
    }
    case 3: // the whole route of another microbatch
      return route.join() === routes[b].join() ? undefined : each(() => routes[b]);
    case 4: // all of it but the first worker
      return each((other) => [other[0], ...routes[b].slice(1)]);
    case 5:
    case 6: { // two microbatches exchange a visit
      const i = 1 + random.integer(k - 1), j = 1 + random.integer(k - 1), x = route[i], y = routes[b][j];
      const clash = (own: Route, at: number, worker: number) =>
        own.some((w, place) => place !== at && stageOf[w] === stageOf[worker]);
      if (a === b || x === y || clash(route, i, y) || clash(routes[b], j, x)) return undefined;
      if (ordered && stageOf[x] !== stageOf[y]) return undefined;
      return routes.map((other, m) => m === a ? other.with(i, y) : m === b ? other.with(j, x) : other);
    }
    case 7: // two microbatches exchange their first workers
      if (route[0] === routes[b][0]) return undefined;
      return routes.map((other, m) =>
        m === a ? other.with(0, routes[b][0]) : m === b ? other.with(0, route[0]) : other
      );
    default: // two microbatches exchange their places in the round
      return a === b ? undefined : routes.map((other, m) => m === a ? routes[b] : m === b ? route : other);
  }
}
