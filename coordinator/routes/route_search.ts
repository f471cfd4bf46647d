/**
 * Looks for routes whose round is short: simulated annealing over small changes, judged by running the round. What a
 * round must do stays as it is: how often each stage is visited and, unless told otherwise, how many microbatches begin at
 * each first worker. On the way there it may be violated, at a price.
 *
 * @module
 */
import { type RandomStream, randomStream } from "../../model/random.ts";
import type { Route, RouteRules } from "./route_round.ts";
import { RouteClock } from "./route_times.ts";

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
  /** Two workers may change places, with the stages that they hold. */
  readonly freePlaces?: boolean;
  /** With free places and ordered routes: a worker may leave its stage for another, so that stages have other numbers of them. */
  readonly freeCounts?: boolean;
  /** What a change may cost at the beginning, as a share of the shortest round: annealing cools from there. */
  readonly heat?: number;
  readonly seed: number;
  /** Changes tried. */
  readonly changes: number;
}

/** Routes, and who holds which stage for them. */
export interface FoundRoutes {
  readonly routes: readonly Route[];
  readonly stages: readonly (readonly number[])[];
  readonly seconds: number;
}

/** Enough to leave the valley of a fair start, not enough to forget it. */
const HEAT = 0.003;

/** The best routes found and their round's seconds; never worse than `start`. */
export function searchRoutes(start: readonly Route[], options: RouteSearch): FoundRoutes {
  const { workers, rules, seed, changes, heat = HEAT } = options, random = randomStream(seed, "routes");
  const clock = new RouteClock(workers, start.length, rules);
  const wanted = tally(start, options.stages, options);
  // Ordered routes visit every stage once, whatever changes.
  const wrong = (state: State) =>
    options.ordered && options.freeStarts ? 0 : tally(state.routes, state.stages, options).reduce(
      (sum, count, i) => sum + Math.abs(count - wanted[i]),
      0,
    );
  // The last microbatch alone is a poor guide: most changes leave it as it is. So every late one counts.
  const price = ({ seconds, late }: { readonly seconds: number; readonly late: number }) =>
    0.3 * seconds + late;
  const first = clock.run(start);
  let now: State = { routes: start, stages: options.stages }, cost = price(first);
  let best: FoundRoutes = { ...now, seconds: first.seconds };
  for (let i = 0; i < changes; i++) {
    const place = options.freePlaces && random.integer(12) === 0;
    const next = !place
      ? change(now, options, random)
      : options.freeCounts && random.integer(2) === 0
      ? moveWorker(now, random)
      : exchangePlaces(now, random);
    if (next === undefined) continue;
    const times = clock.run(next.routes), amiss = wrong(next);
    const asked = price(times) + 0.01 * first.seconds * amiss,
      warmth = heat * best.seconds * (1 - i / changes) ** 2;
    if (!(asked <= cost) && !(random.uniform() < Math.exp((cost - asked) / warmth))) continue;
    [now, cost] = [next, asked];
    if (amiss === 0 && times.seconds < best.seconds) best = { ...next, seconds: times.seconds };
  }
  return best;
}

/**
 * For full pipelines in which everything is free: which worker holds which stage decides most, and one search soon settles on
 * that. So there are `starts` searches from the same start, each with chances of its own, and one from the best of them that
 * is five times as long.
 */
export function searchPipelines(
  start: readonly Route[],
  { starts, ...rest }: Pick<RouteSearch, "workers" | "stages" | "rules" | "seed" | "changes"> & {
    readonly starts: number;
  },
): FoundRoutes {
  const free = { ...rest, ordered: true, freeStarts: true, freePlaces: true, freeCounts: true };
  let best: FoundRoutes | undefined;
  for (let i = 0; i < starts; i++) {
    const found = searchRoutes(start, { ...free, seed: rest.seed + i, heat: 2 * HEAT });
    if (best === undefined || found.seconds < best.seconds) best = found;
  }
  const { routes, stages } = best!;
  return searchRoutes(routes, { ...free, stages, changes: 5 * rest.changes, heat: 1.3 * HEAT });
}

interface State {
  readonly routes: readonly Route[];
  readonly stages: readonly (readonly number[])[];
}

/** Two workers of different stages take each other's place everywhere. */
function exchangePlaces({ routes, stages }: State, random: RandomStream): State | undefined {
  const s = random.integer(stages.length), t = random.integer(stages.length);
  if (s === t) return undefined;
  const x = stages[s][random.integer(stages[s].length)], y = stages[t][random.integer(stages[t].length)];
  const other = (worker: number) => worker === x ? y : worker === y ? x : worker;
  return {
    routes: routes.map((route) => route.map(other)),
    stages: stages.map((holders) => holders.map(other)),
  };
}

/** A worker leaves its stage for another: its microbatches go to others there, and some of the new stage's come to it. */
function moveWorker({ routes, stages }: State, random: RandomStream): State | undefined {
  const s = random.integer(stages.length), t = random.integer(stages.length);
  if (s === t || stages[s].length < 2) return undefined;
  const x = stages[s][random.integer(stages[s].length)], rest = stages[s].filter((worker) => worker !== x);
  const joined = [...stages[t], x];
  return {
    routes: routes.map((route) => {
      const left = route[s] === x ? route.with(s, rest[random.integer(rest.length)]) : route;
      return random.integer(joined.length) === 0 ? left.with(t, x) : left;
    }),
    stages: stages.map((holders, i) => i === s ? rest : i === t ? joined : holders),
  };
}

function stagesByWorker(stages: State["stages"]): Map<number, number> {
  return new Map(stages.flatMap((holders, stage) => holders.map((worker) => [worker, stage] as const)));
}

/** Visits of each stage, then (unless they are free) beginnings at each worker of the first. */
function tally(
  routes: readonly Route[],
  stages: State["stages"],
  { freeStarts }: RouteSearch,
): number[] {
  const stageOf = stagesByWorker(stages), visits = new Array<number>(stages.length).fill(0);
  for (const route of routes) for (const worker of route) visits[stageOf.get(worker)!]++;
  if (freeStarts) return visits;
  return [...visits, ...stages[0].map((worker) => routes.filter(([first]) => first === worker).length)];
}

/** One change of routes, or undefined where the change drawn is not possible. */
function change(state: State, options: RouteSearch, random: RandomStream): State | undefined {
  const routes = changeRoutes(state, options, random);
  return routes && { ...state, routes };
}

function changeRoutes(
  { routes, stages }: State,
  { ordered }: RouteSearch,
  random: RandomStream,
): Route[] | undefined {
  const places = stagesByWorker(stages), stageOf = (worker: number) => places.get(worker)!;
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
      const at = random.integer(k), worker = draw(stages[stageOf(route[at])]);
      return worker === route[at] ? undefined : each((other) => other.with(at, worker));
    }
    case 1: { // stages in another order
      const i = 1 + random.integer(k - 1), j = 1 + random.integer(k - 1);
      if (ordered || i === j) return undefined;
      return each((other) => other.with(i, other[j]).with(j, other[i]));
    }
    case 2: { // another stage instead of one
      const missing = stages.flatMap((_, s) => route.some((worker) => stageOf(worker) === s) ? [] : [s]);
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
        own.some((w, place) => place !== at && stageOf(w) === stageOf(worker));
      if (a === b || x === y || clash(route, i, y) || clash(routes[b], j, x)) return undefined;
      if (ordered && stageOf(x) !== stageOf(y)) return undefined;
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
