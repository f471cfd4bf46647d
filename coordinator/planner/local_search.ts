/**
 * Good divisions of a model over clusters of any size: a few constructed ones, improved by small changes. Changes are
 * judged by the bound of division.ts and, at the end, by simulation. The same setting always gives the same answer.
 *
 * @module
 */
import { type RandomStream, randomStream } from "../../model/random.ts";
import type { Division, Judge, Part } from "./division.ts";

/** A division and its simulated round. */
export interface Found {
  readonly division: Division;
  readonly seconds: number;
}

/** How hard to look. */
export interface Effort {
  /** Changes tried from each start. */
  readonly changes: number;
  /** Starts that are improved. */
  readonly starts: number;
  /** Changes tried at the end with the simulator as judge. */
  readonly polish: number;
}

/** The best division found that fits; otherwise the one that lacks least. */
export function searchLocally(
  judge: Judge,
  effort: Effort,
  limits: { readonly stages?: number; readonly hosts?: boolean } = {},
): { readonly best: Found | undefined; readonly closest: Division } {
  const random = randomStream(1, "planner");
  const moves = new Moves(judge, random, limits);
  const starts = construct(judge, limits.stages).map((division) => ({
    division,
    cost: price(judge, division),
  }))
    .sort((a, b) => a.cost - b.cost);
  // Different numbers of stages first: changes move slowly from one to another.
  const lengths = new Set<number>(), chosen: typeof starts = [];
  for (const start of starts) {
    if (chosen.length < effort.starts && !lengths.has(start.division.length)) chosen.push(start);
    lengths.add(start.division.length);
  }
  const improved = chosen.map(({ division }) => anneal(judge, moves, random, division, effort.changes));
  let closest = improved[0], best: Found | undefined;
  for (const division of improved) {
    if (judge.shortage(division) < judge.shortage(closest)) closest = division;
    if (judge.shortage(division) > 0 || judge.bound(division) >= (best?.seconds ?? Infinity)) continue;
    const { seconds } = judge.simulate(division);
    if (seconds < (best?.seconds ?? Infinity)) best = { division, seconds };
  }
  if (best !== undefined) best = polish(judge, moves, best, effort.polish);
  return { best, closest };
}

/** The bound, and more where memory is short: divisions that do not fit are only steps on the way. */
function price(judge: Judge, division: Division): number {
  const bound = judge.bound(division);
  if (bound === Infinity) return Infinity;
  const short = judge.shortage(division);
  if (short === 0) return bound;
  let lent = 0;
  for (const worker of judge.memory(division).keys()) {
    lent += judge.setting.cluster.workers[worker].profile.memory;
  }
  return bound * (2 + 20 * short / lent);
}

/** Simulated annealing: changes for the worse are taken with a chance that falls. */
function anneal(
  judge: Judge,
  moves: Moves,
  random: RandomStream,
  start: Division,
  changes: number,
): Division {
  let now = start, cost = price(judge, now), best = now, least = cost;
  for (let i = 0; i < changes; i++) {
    const next = moves.change(now);
    if (next === undefined) continue;
    const price_ = price(judge, next);
    const heat = 0.005 * cost * (1 - i / changes) ** 2;
    if (!(price_ <= cost) && !(random.uniform() < Math.exp((cost - price_) / heat))) continue;
    [now, cost] = [next, price_];
    if (cost < least) [best, least] = [now, cost];
  }
  return best;
}

function polish(judge: Judge, moves: Moves, start: Found, changes: number): Found {
  let best = start;
  for (let i = 0; i < changes; i++) {
    const division = moves.change(best.division);
    if (division === undefined || judge.bound(division) >= best.seconds || judge.shortage(division) > 0) {
      continue;
    }
    const { seconds } = judge.simulate(division);
    if (seconds < best.seconds) best = { division, seconds };
  }
  return best;
}

/** Seconds of one microbatch through one layer with all its experts, both ways. */
function layerSeconds(judge: Judge, worker: number): number {
  const { before, after, experts } = judge.predictor.seconds(worker);
  return [before, after, experts[judge.setting.config.experts]]
    .reduce((sum, { forward, input, weight }) => sum + forward + input + weight, 0);
}

/** Divisions to begin with: the fastest workers, and fast workers near one of them, as chains of neighbours. */
function construct(judge: Judge, only: number | undefined): Division[] {
  const { config, cluster } = judge.setting, { layers } = config;
  const seconds = cluster.workers.map((_, w) => layerSeconds(judge, w));
  const fastest = cluster.workers.map((_, w) => w).sort((a, b) => seconds[a] - seconds[b] || a - b);
  const most = Math.min(layers, fastest.length), found: Division[] = [];
  const counts = new Set<number>(only === undefined ? [1, 2, 3, most] : [only]);
  if (only === undefined) { for (let n = 4; n < most; n = Math.ceil(n * 1.3)) counts.add(n); }
  for (const stages of counts) {
    if (stages > most) continue;
    // Long chains take long to make and differ little.
    const centres = fastest.slice(0, stages > 100 ? 1 : 12);
    const choices = [fastest.slice(0, stages)];
    for (const centre of centres) {
      const cost = (w: number) =>
        seconds[w] * layers / stages + (w === centre ? 0 : judge.activationHop(centre, w));
      const near = fastest.map((w) => ({ w, cost: cost(w) })).sort((a, b) => a.cost - b.cost);
      choices.push(near.slice(0, stages).map(({ w }) => w));
    }
    for (const holders of choices) found.push(cut(judge, chain(judge, holders), seconds));
  }
  return found;
}

/** Workers in an order in which neighbours are near: always on to the nearest that is left. */
function chain(judge: Judge, workers: readonly number[]): number[] {
  const left = new Set(workers), order: number[] = [];
  for (let at: number | undefined = workers[0]; at !== undefined;) {
    order.push(at);
    left.delete(at);
    let nearest: number | undefined, least = Infinity;
    for (const w of left) {
      const hop = judge.activationHop(at, w);
      if (nearest === undefined || hop < least) [nearest, least] = [w, hop];
    }
    at = nearest;
  }
  return order;
}

/** Each worker takes a layer; the others go one by one to whoever would be done with it first. */
function cut(judge: Judge, holders: readonly number[], seconds: readonly number[]): Division {
  const { layers } = judge.setting.config, stages = holders.length;
  const taken = new Array<number>(stages).fill(1);
  const load = holders.map((w, s) =>
    seconds[w] + (s === stages - 1 ? judge.predictor.seconds(w).head.forward : 0)
  );
  for (let layer = stages; layer < layers; layer++) {
    let chosen = 0;
    for (let s = 1; s < stages; s++) {
      if (load[s] + seconds[holders[s]] < load[chosen] + seconds[holders[chosen]]) chosen = s;
    }
    taken[chosen]++;
    load[chosen] += seconds[holders[chosen]];
  }
  return holders.map((worker, s): Part => ({ worker, layers: taken[s], remote: [] }));
}

/** Small changes to divisions. */
class Moves {
  readonly #workers: number;
  /** Workers by speed, fastest first. */
  readonly #ranked: readonly number[];

  constructor(
    private readonly judge: Judge,
    private readonly random: RandomStream,
    private readonly limits: { readonly stages?: number; readonly hosts?: boolean },
  ) {
    const { cluster } = judge.setting;
    this.#workers = cluster.workers.length;
    const seconds = cluster.workers.map((_, w) => layerSeconds(judge, w));
    this.#ranked = cluster.workers.map((_, w) => w).sort((a, b) => seconds[a] - seconds[b] || a - b);
  }

  /** A division one change away, or undefined where the change drawn is not possible. */
  change(division: Division): Division | undefined {
    const { experts } = this.judge.setting.config, hosts = experts > 0 && this.limits.hosts !== false;
    const fixed = this.limits.stages !== undefined;
    switch (this.random.integer(hosts ? 9 : 6)) {
      case 0:
      case 1:
        return this.#border(division);
      case 2:
        return this.#swap(division);
      case 3:
        return this.#replace(division);
      case 4:
        return fixed ? this.#move(division) : this.#remove(division);
      case 5:
        return fixed ? this.#border(division) : this.#insert(division);
      default:
        return this.#experts(division);
    }
  }

  #stage(division: Division): number {
    return this.random.integer(division.length);
  }

  /** A worker without a part; the faster ones are drawn more often. */
  #free(division: Division, hostsToo: boolean): number | undefined {
    const used = new Set<number>();
    for (const { worker, remote } of division) {
      used.add(worker);
      if (hostsToo) { for (const [host] of remote) used.add(host); }
    }
    for (let tries = 0; tries < 8; tries++) {
      const worker = this.#ranked[Math.floor(this.random.uniform() ** 2 * this.#workers)];
      if (!used.has(worker)) return worker;
    }
    return this.#ranked.find((worker) => !used.has(worker));
  }

  /** Some layers from one stage to another. Between neighbours the rest stays; further off all between shift along. */
  #border(division: Division): Division | undefined {
    if (division.length < 2) return undefined;
    const from = this.#stage(division), near = this.random.integer(2) === 0;
    const to = near ? from + (this.random.integer(2) === 0 ? 1 : -1) : this.#stage(division);
    if (to < 0 || to >= division.length || to === from) return undefined;
    const count = 1 + this.random.integer(Math.min(3, division[from].layers));
    if (division[from].layers <= count) return undefined;
    return division.map((part, s) =>
      s === from
        ? { ...part, layers: part.layers - count }
        : s === to
        ? { ...part, layers: part.layers + count }
        : part
    );
  }

  /** Two stages change workers, with or without their layers. */
  #swap(division: Division): Division | undefined {
    const a = this.#stage(division), b = this.#stage(division);
    if (a === b) return undefined;
    const whole = this.random.integer(2) === 0;
    return division.map((part, s) => {
      if (s !== a && s !== b) return part;
      const other = division[s === a ? b : a];
      return whole ? other : { ...part, worker: other.worker };
    });
  }

  /** A stage goes to another place in the order. */
  #move(division: Division): Division | undefined {
    const from = this.#stage(division), to = this.#stage(division);
    if (from === to) return undefined;
    const rest = division.toSpliced(from, 1);
    return rest.toSpliced(to, 0, division[from]);
  }

  #replace(division: Division): Division | undefined {
    const worker = this.#free(division, true), at = this.#stage(division);
    if (worker === undefined) return this.#move(division);
    return division.map((part, s) => s === at ? { ...part, worker } : part);
  }

  /** A stage's layers go to a neighbour. */
  #remove(division: Division): Division | undefined {
    if (division.length < 2) return undefined;
    const at = this.#stage(division);
    const to = at === 0
      ? 1
      : at === division.length - 1
      ? at - 1
      : at + (this.random.integer(2) === 0 ? 1 : -1);
    return division.map((part, s) => s === to ? { ...part, layers: part.layers + division[at].layers } : part)
      .toSpliced(at, 1);
  }

  /** A free worker takes some layers of a stage, before or behind it. */
  #insert(division: Division): Division | undefined {
    const worker = this.#free(division, true), at = this.#stage(division), { layers } = division[at];
    if (worker === undefined || layers < 2) return undefined;
    const taken = 1 + this.random.integer(layers - 1);
    const rest = division.map((part, s) => s === at ? { ...part, layers: layers - taken } : part);
    return rest.toSpliced(at + this.random.integer(2), 0, { worker, layers: taken, remote: [] });
  }

  /** Experts of a stage go to a host, back, or from host to host. */
  #experts(division: Division): Division | undefined {
    const at = this.#stage(division), part = division[at], own = this.judge.own(part);
    const counts = new Map(part.remote);
    const holders = new Set(division.map(({ worker }) => worker));
    const places = [part.worker, ...counts.keys()];
    const from = places[this.random.integer(places.length)];
    let to: number | undefined;
    switch (this.random.integer(3)) {
      case 0:
        to = places[this.random.integer(places.length)];
        break;
      case 1: {
        const others = division[this.#stage(division)].remote;
        to = others.length > 0 ? others[this.random.integer(others.length)][0] : this.#free(division, true);
        break;
      }
      default:
        to = this.#free(division, true);
    }
    if (to === undefined || to === from || (to !== part.worker && holders.has(to))) return undefined;
    const here = from === part.worker ? own : counts.get(from)!;
    if (here === 0) return undefined;
    const moved = 1 + this.random.integer(here);
    if (from !== part.worker) counts.set(from, here - moved);
    if (to !== part.worker) counts.set(to, (counts.get(to) ?? 0) + moved);
    const remote = [...counts].filter(([, n]) => n > 0).sort(([a], [b]) => a - b);
    return division.map((other, s) => s === at ? { ...other, remote } : other);
  }
}
