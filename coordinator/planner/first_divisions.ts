/**
 * Divisions from which a search begins, made from the workers' speeds and distances alone.
 *
 * @module
 */
import type { Judge } from "./judge.ts";
import type { Division, Part } from "./division.ts";

/** Each worker's seconds of one microbatch through one layer with all its experts, both ways. */
export function layerSeconds(judge: Judge): number[] {
  const { config, cluster } = judge.setting;
  return cluster.workers.map((_, worker) => {
    const { before, after, experts } = judge.predictor.seconds(worker);
    return [before, after, experts[config.experts]]
      .reduce((sum, { forward, input, weight }) => sum + forward + input + weight, 0);
  });
}

/** Workers by the seconds that a layer takes them. */
export function fastestFirst(seconds: readonly number[]): number[] {
  return [...seconds.keys()].sort((a, b) => seconds[a] - seconds[b] || a - b);
}

/**
 * Divisions to begin with: the fastest workers, and fast workers near one of them, as chains of neighbours. `only`: the number
 * of stages; absent: several.
 */
export function firstDivisions(judge: Judge, only: number | undefined): Division[] {
  const { layers } = judge.setting.config, seconds = layerSeconds(judge), fastest = fastestFirst(seconds);
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
