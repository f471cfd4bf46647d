/**
 * Every plan of a model over a few workers, found in another way than the planner's: which workers have a part, in how many
 * pipelines and in which order, where layers are cut, which experts lie elsewhere, and how a round is shared out.
 *
 * @module
 */
import { assert } from "@std/assert";
import { type Cluster, partOf } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import type { Division, Part } from "../../coordinator/planner/division.ts";
import { type FindRequest, planOf, planOfPipelines, stagesOf } from "../../coordinator/planner/find_plan.ts";
import { ReplicaBound, type TeamDivision } from "../../coordinator/planner/replica_bound.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { links, type Plan } from "../../mesh/plan.ts";
import type { RandomStream } from "../../model/random.ts";

/** Speeds over a factor of 16, memory sometimes short, links over a factor of 1000 (all `quick` times as fast), some missing. */
export function randomCluster(random: RandomStream, count: number, memory: number, quick = 1): Cluster {
  const spread = (low: number, high: number) => low * (high / low) ** random.uniform();
  const workers = Array.from({ length: count }, (_, i) => ({
    id: `w${i}`,
    profile: {
      flops: spread(1e10, 16e10),
      bandwidth: spread(1e10, 4e10),
      memory: memory * spread(0.2, 3),
      deviceName: "",
    },
    up: random.integer(3) === 0 ? quick * spread(1e6, 1e8) : Infinity,
    down: Infinity,
  }));
  const known = workers.map(() =>
    workers.map(() => ({ latency: spread(1e-4, 5e-2) / quick, bandwidth: quick * spread(1e6, 1e9) }))
  );
  const missing = workers.map(() => workers.map(() => random.integer(10) === 0));
  const link = (a: number, b: number) => {
    const [i, j] = [Math.min(a, b), Math.max(a, b)];
    return missing[i][j] && j !== i + 1 ? undefined : known[i][j];
  };
  return { name: "random", workers, link, changes: [] };
}

/** Every division of one pipeline, layer by layer. */
export function everyDivision(workers: number, layers: number, experts: number): Division[] {
  const found: Division[] = [];
  const grow = (parts: readonly Part[], left: number) => {
    if (left === 0) return void found.push(...withHosts(parts));
    for (let worker = 0; worker < workers; worker++) {
      if (parts.some((part) => part.worker === worker)) continue;
      for (let span = 1; span <= left; span++) {
        grow([...parts, { worker, layers: span, remote: [] }], left - span);
      }
    }
  };
  const withHosts = (parts: readonly Part[]): Division[] => {
    const free = Array.from({ length: workers }, (_, w) => w).filter((w) =>
      !parts.some((p) => p.worker === w)
    );
    let all: Division[] = [[]];
    for (const part of parts) {
      // One digit for each host: how many experts it has.
      const choices: Part[] = [];
      for (let code = 0; code < (experts + 1) ** free.length; code++) {
        const digits = free.map((_, i) => Math.floor(code / (experts + 1) ** i) % (experts + 1));
        if (digits.reduce((a, b) => a + b, 0) > experts) continue;
        choices.push({
          ...part,
          remote: free.flatMap((w, i) => digits[i] > 0 ? [[w, digits[i]] as const] : []),
        });
      }
      all = all.flatMap((before) => choices.map((choice) => [...before, choice]));
    }
    return all;
  };
  grow([], layers);
  return found;
}

/** Every way to share out `microbatches` to so many pipelines. */
function everyShare(microbatches: number, pipelines: number): number[][] {
  if (pipelines === 1) return [[microbatches]];
  return Array.from({ length: microbatches - pipelines + 1 }, (_, i) => i + 1).flatMap((first) =>
    everyShare(microbatches - first, pipelines - 1).map((rest) => [first, ...rest])
  );
}

/** What was looked at. */
export interface Looked {
  /** Seconds of the quickest plan; Infinity where none fits. */
  readonly best: number;
  readonly pipelines: number;
  readonly plans: number;
  readonly simulated: number;
}

/**
 * The quickest of all plans. Plans of which a bound says that they take longer than `known` seconds are counted, not
 * simulated; of those that are simulated, and of some others that `random` draws, the bound is checked.
 */
export function quickest(request: FindRequest, known: number, random: RandomStream): Looked {
  const { config, cluster, shape, recompute } = request, n = cluster.workers.length;
  const looked = { best: Infinity, pipelines: 0, plans: 0, simulated: 0 };
  const replicas = new ReplicaBound(config, cluster), teams = new Map<string, TeamDivision[]>();
  const look = (bound: number, pipelines: number, plan: () => Plan) => {
    looked.plans++;
    if (bound > known * (1 + 1e-9) && random.integer(500) > 0) return;
    if (bound === Infinity) return;
    const made = plan(), places = new Map(cluster.workers.map(({ id }, place) => [id, place]));
    if (links(made).some(([a, b]) => cluster.link(places.get(a)!, places.get(b)!) === undefined)) return;
    const { seconds } = simulatePlan(made, cluster);
    assert(bound <= seconds * (1 + 1e-9), `a bound of ${bound} s above the simulated ${seconds} s`);
    looked.simulated++;
    if (seconds < looked.best) Object.assign(looked, { best: seconds, pipelines });
  };
  const alone = new Judge({ config, cluster, shape, recompute });
  for (const division of everyDivision(n, config.layers, config.experts)) {
    const bound = alone.bound(division);
    if (bound < Infinity && alone.shortage(division) === 0) {
      look(bound, 1, () => planOf(request, division));
    }
  }
  const divisions = (team: readonly number[], microbatches: number): TeamDivision[] => {
    const key = `${team} ${microbatches}`;
    if (!teams.has(key)) {
      const judge = new Judge({
        config,
        cluster: partOf(cluster, team),
        shape: { ...shape, microbatches },
        recompute,
      });
      teams.set(
        key,
        everyDivision(team.length, config.layers, config.experts)
          .filter((division) => judge.bound(division) < Infinity && judge.shortage(division) === 0)
          .map((division) => ({
            division,
            holders: division.map(({ worker }) => team[worker]),
            ...judge.leastPasses(division),
          })),
      );
    }
    return teams.get(key)!;
  };
  for (let count = 2; count <= Math.min(n, shape.microbatches); count++) {
    for (let code = 0; code < (count + 1) ** n; code++) {
      const place = Array.from({ length: n }, (_, w) => Math.floor(code / (count + 1) ** w) % (count + 1));
      const teams = Array.from({ length: count }, (_, t) => place.flatMap((p, w) => p === t ? [w] : []));
      if (teams.some((team) => team.length === 0)) continue;
      for (const shares of everyShare(shape.microbatches, count)) {
        const choose = (chosen: readonly TeamDivision[]) => {
          const t = chosen.length;
          if (t === count) {
            return look(
              replicas.seconds(chosen),
              count,
              () => planOfTeams(request, teams, shares, chosen),
            );
          }
          for (const one of divisions(teams[t], shares[t])) {
            // A plan with a pipeline that is too slow is too slow.
            if (one.least <= known * (1 + 1e-9)) choose([...chosen, one]);
            else looked.plans++;
          }
        };
        choose([]);
      }
    }
  }
  return looked;
}

function planOfTeams(
  request: FindRequest,
  teams: readonly (readonly number[])[],
  shares: readonly number[],
  chosen: readonly TeamDivision[],
): Plan {
  const { config, cluster } = request;
  const pipelines = chosen.map(({ division }, t) => ({
    shares: [shares[t]],
    stages: stagesOf({ config, cluster: partOf(cluster, teams[t]) }, division),
  }));
  return planOfPipelines(request, pipelines);
}
