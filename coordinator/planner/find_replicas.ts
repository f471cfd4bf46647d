/**
 * Replicas for a cluster whose links are known: which workers make up which pipeline, how much of a round each gets and how
 * each is divided, judged by the simulator with what replicas exchange. Small clusters are searched to the end, large ones
 * over a few ways to deal the workers.
 *
 * @module
 */
import { links, type Pipeline, type Plan } from "../../mesh/plan.ts";
import { partOf } from "../cost/cluster.ts";
import { Judge } from "./judge.ts";
import type { Division } from "./division.ts";
import { countDivisions, divisions } from "./exact_search.ts";
import { type FindRequest, planOfPipelines, stagesOf } from "./find_plan.ts";
import { searchLocally } from "./local_search.ts";
import { ReplicaBound, type TeamDivision } from "./replica_bound.ts";
import { simulatePlan } from "../simulator/simulate_plan.ts";
import { linkCodecs } from "../cost/traffic.ts";
import { proportional } from "./teams.ts";

/** Workers up to which all ways to group them are tried. */
const mostGrouped = 5;
/** Ways to cut a round into shares up to which all are tried. */
const mostCuts = 2_000;
/** Divisions of one pipeline up to which all are tried, each beside all of the others. */
const mostDivisions = 2_000;
/** The most replicas that are tried where not all groups are. */
const mostReplicas = 8;
const effort = { changes: 300, starts: 3, polish: 20 };

/** A plan of several pipelines. */
export interface FoundReplicas {
  readonly plan: Plan;
  /** Predicted seconds of a training round. */
  readonly seconds: number;
  /** Places in the cluster of each pipeline's workers. */
  readonly teams: readonly (readonly number[])[];
  /** All groups, shares and divisions were considered. */
  readonly exact: boolean;
}

/** Workers, their shares of a round, and what no round of them can beat. */
interface Deal {
  readonly teams: readonly number[][];
  readonly shares: readonly number[];
  readonly bound: number;
}

/** The best plan with two replicas or more; undefined where none fits. The same request always gives the same plan. */
export function findReplicas(request: FindRequest): FoundReplicas | undefined {
  return new Search(request).run();
}

class Search {
  readonly #request: FindRequest;
  readonly #known = new Map<string, readonly TeamDivision[]>();
  readonly #bound: ReplicaBound;
  #best: Omit<FoundReplicas, "exact"> | undefined;
  readonly #small: boolean;
  #exact: boolean;

  constructor(request: FindRequest) {
    this.#request = request;
    this.#small = this.#exact = request.cluster.workers.length <= mostGrouped;
    this.#bound = new ReplicaBound(request.config, request.cluster);
  }

  run(): FoundReplicas | undefined {
    const { shape: { microbatches } } = this.#request;
    const deals: Deal[] = [];
    for (const teams of this.#groups()) {
      if (teams.length > microbatches) continue;
      for (const shares of this.#shares(teams)) {
        const first = teams.map((team, t) => this.#candidates(team, shares[t])[0]);
        if (!first.every((candidate) => candidate !== undefined)) continue;
        deals.push({ teams, shares, bound: Math.max(...first.map(({ least }) => least)) });
      }
    }
    // What may be quickest first: then most others need not be simulated.
    deals.sort((a, b) => a.bound - b.bound);
    for (const { teams, shares, bound } of deals) {
      if (bound >= (this.#best?.seconds ?? Infinity)) break;
      this.#judge(teams, shares, teams.map((team, t) => this.#candidates(team, shares[t])[0]));
    }
    for (const { teams, shares, bound } of deals) {
      if (bound >= (this.#best?.seconds ?? Infinity)) break;
      this.#combine(teams, shares, []);
    }
    return this.#best === undefined ? undefined : { ...this.#best, exact: this.#exact };
  }

  /** Every combination of the teams' divisions that could still be the best. */
  #combine(teams: readonly number[][], shares: readonly number[], chosen: readonly TeamDivision[]): void {
    const t = chosen.length;
    if (t === teams.length) return this.#judge(teams, shares, chosen);
    for (const candidate of this.#candidates(teams[t], shares[t])) {
      if (candidate.least >= (this.#best?.seconds ?? Infinity)) return; // no round is quicker than its slowest pipeline
      this.#combine(teams, shares, [...chosen, candidate]);
    }
  }

  /** Simulates a plan, unless no round of it can be the best. */
  #judge(teams: readonly number[][], shares: readonly number[], chosen: readonly TeamDivision[]): void {
    if (this.#bound.seconds(chosen) >= (this.#best?.seconds ?? Infinity)) return;
    const plan = this.#plan(teams, shares, chosen.map(({ division }) => division));
    const seconds = this.#simulate(plan);
    if (seconds < (this.#best?.seconds ?? Infinity)) this.#best = { plan, seconds, teams };
  }

  /** Ways to make two pipelines or more of the workers; some may have no part. */
  *#groups(): Generator<number[][]> {
    const { cluster, shape } = this.#request, all = cluster.workers.map((_, w) => w);
    if (this.#small) return yield* groupings(all, Math.min(all.length, shape.microbatches));
    const speed = (w: number) => cluster.workers[w].profile.flops;
    const ranked = all.toSorted((a, b) => speed(b) - speed(a) || a - b);
    for (let count = 2; count <= Math.min(mostReplicas, all.length, shape.microbatches); count++) {
      // Equally fast teams of many kinds, and neighbours in speed together.
      yield Array.from(
        { length: count },
        (_, t) =>
          ranked.filter((_, i) =>
            (Math.floor(i / count) % 2 === 0 ? i % count : count - 1 - i % count) === t
          ),
      );
      const each = Math.ceil(ranked.length / count);
      const rows = Array.from({ length: count }, (_, t) => ranked.slice(t * each, (t + 1) * each));
      if (rows.every((team) => team.length > 0)) yield rows;
    }
  }

  /** Shares of a round for some teams: all where they are few, else in proportion and from there downhill. */
  *#shares(teams: readonly number[][]): Generator<number[]> {
    const { shape: { microbatches: m } } = this.#request, count = teams.length;
    if (this.#small && choose(m - 1, count - 1) <= mostCuts) return yield* compositions(m, count);
    this.#exact = false;
    const even = teams.map((team) => this.#candidates(team, Math.ceil(m / count))[0]);
    if (!even.every((part) => part !== undefined)) return;
    let shares = proportional(m, even.map(({ least }) => 1 / least));
    const longest = (of: readonly number[]) => {
      const seconds = teams.map((team, t) => this.#candidates(team, of[t])[0]?.least ?? Infinity);
      return { seconds, most: Math.max(...seconds) };
    };
    for (let now = longest(shares);;) {
      const slowest = now.seconds.indexOf(now.most), fastest = now.seconds.indexOf(Math.min(...now.seconds));
      if (shares[slowest] === 1) break;
      const moved = shares.map((share, t) => share + (t === fastest ? 1 : 0) - (t === slowest ? 1 : 0));
      const next = longest(moved);
      if (next.most >= now.most) break;
      [shares, now] = [moved, next];
    }
    yield shares;
  }

  /** Divisions of a team that fit, quickest first: all where they are few, else the best that a search finds. */
  #candidates(team: readonly number[], microbatches: number): readonly TeamDivision[] {
    const key = `${team.join(" ")} x ${microbatches}`;
    let found = this.#known.get(key);
    if (found === undefined) this.#known.set(key, found = this.#divide(team, microbatches));
    return found;
  }

  #divide(team: readonly number[], microbatches: number): readonly TeamDivision[] {
    const { config, shape, recompute, precision, codec = "f32" } = this.#request;
    const cluster = partOf(this.#request.cluster, team);
    const judge = new Judge({
      config,
      cluster,
      shape: { ...shape, microbatches },
      recompute,
      precision,
      codecs: linkCodecs(cluster, codec),
    });
    const all = this.#small && countDivisions(team.length, config.layers, config.experts) <= mostDivisions;
    if (!all) this.#exact = false;
    const best = all ? undefined : searchLocally(judge, effort).best;
    return [...(all ? divisions(team.length, config.layers, config.experts) : best ? [best.division] : [])]
      .filter((division) => judge.bound(division) < Infinity && judge.shortage(division) === 0)
      .map((division) => ({
        division,
        holders: division.map(({ worker }) => team[worker]),
        ...judge.leastPasses(division),
      }))
      .sort((a, b) => a.least - b.least);
  }

  #plan(teams: readonly number[][], shares: readonly number[], divisions: readonly Division[]): Plan {
    const { config, cluster } = this.#request;
    const pipelines = teams.map((team, t): Pipeline => ({
      shares: [shares[t]],
      stages: stagesOf({ config, cluster: partOf(cluster, team) }, divisions[t]),
    }));
    return planOfPipelines(this.#request, pipelines);
  }

  /** Predicted seconds; Infinity where workers that must exchange tensors have no link. */
  #simulate(plan: Plan): number {
    const { cluster } = this.#request;
    const places = new Map(cluster.workers.map(({ id }, place) => [id, place]));
    const apart = links(plan).some(([a, b]) => cluster.link(places.get(a)!, places.get(b)!) === undefined);
    return apart ? Infinity : simulatePlan(plan, cluster).seconds;
  }
}

/**
 * Ways to put some or all of a list into two to `most` groups. The order of the groups counts: which pipeline owns which
 * layers follows from it.
 */
function* groupings(list: readonly number[], most: number): Generator<number[][]> {
  for (let count = 2; count <= most; count++) {
    for (let code = 0; code < (count + 1) ** list.length; code++) {
      const groups = Array.from({ length: count }, (): number[] => []);
      list.forEach((item, i) => groups[Math.floor(code / (count + 1) ** i) % (count + 1) - 1]?.push(item));
      if (groups.every((group) => group.length > 0)) yield groups;
    }
  }
}

/** `n` as sums of `k` positive numbers. */
function* compositions(n: number, k: number): Generator<number[]> {
  if (k === 1) return yield [n];
  for (let first = 1; first <= n - k + 1; first++) {
    for (const rest of compositions(n - first, k - 1)) yield [first, ...rest];
  }
}

function choose(n: number, k: number): number {
  let product = 1;
  for (let i = 1; i <= k; i++) product = product * (n - k + i) / i;
  return Math.round(product);
}
