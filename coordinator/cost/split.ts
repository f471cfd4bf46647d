/**
 * How a row of layers and a set of experts are divided over workers of unequal speed.
 *
 * @module
 */

/**
 * Cuts `costs` (one for each layer, in order) into `speeds.length` contiguous spans of at least one layer so that the
 * largest span cost / speed is smallest; of equal choices the one with the earliest cuts. `first` and `last` are added to
 * the first and last span (embedding and head). Answers with the spans' borders: speeds.length + 1 numbers from 0 to
 * costs.length. Exact, O(layers^2 * workers).
 */
export function splitLayers(
  costs: readonly number[],
  speeds: readonly number[],
  first = 0,
  last = 0,
): number[] {
  const layers = costs.length, workers = speeds.length;
  const sums = [0];
  for (const cost of costs) sums.push(sums.at(-1)! + cost);
  const time = (w: number, from: number, to: number) =>
    (sums[to] - sums[from] + (w === 0 ? first : 0) + (w === workers - 1 ? last : 0)) / speeds[w];
  // best[w][l]: smallest largest time of the first w workers over the first l layers; cut: where the last one begins.
  let best = new Array<number>(layers + 1).fill(Infinity);
  best[0] = 0;
  const cuts: number[][] = [];
  for (let w = 0; w < workers; w++) {
    const next = new Array<number>(layers + 1).fill(Infinity), cut = new Array<number>(layers + 1).fill(0);
    for (let to = w + 1; to <= layers; to++) {
      for (let from = w; from < to; from++) {
        const longest = Math.max(best[from], time(w, from, to));
        if (longest < next[to]) [next[to], cut[to]] = [longest, from];
      }
    }
    best = next;
    cuts.push(cut);
  }
  const borders = [layers];
  for (let w = workers - 1; w >= 0; w--) borders.unshift(cuts[w][borders[0]]);
  return borders;
}

/** What dealing the experts of one layer takes into account; times in seconds of one step. */
export interface Dealing {
  /** Experts of the layer. */
  readonly experts: number;
  /** The worker that holds the layer, and workers that may hold experts of it. */
  readonly owner: string;
  readonly hosts: readonly string[];
  /** Time of one expert on a worker. */
  readonly compute: (worker: string) => number;
  /** Time that either end of a link spends on one expert's rows. */
  readonly transfer: number;
}

/**
 * Deals a layer's experts: one to each host, then each to whom it delays least (of equal ones the owner, then the first
 * host). An expert on a host costs both ends the transfer of its rows. Changes `load`, the time that each worker is busy in a
 * step so far, and answers with the number of experts of the owner, then of each host.
 */
export function deal(
  { experts, owner, hosts, compute, transfer }: Dealing,
  load: Map<string, number>,
): number[] {
  const counts = [0, ...hosts.map(() => 0)];
  const busy = (worker: string, more: number) => load.set(worker, load.get(worker)! + more);
  const give = (place: number) => {
    counts[place]++;
    if (place === 0) return busy(owner, compute(owner));
    busy(owner, transfer);
    busy(hosts[place - 1], transfer + compute(hosts[place - 1]));
  };
  for (let expert = 0; expert < experts; expert++) {
    if (expert < hosts.length) {
      give(expert + 1);
      continue;
    }
    let chosen = 0, least = load.get(owner)! + compute(owner);
    hosts.forEach((host, h) => {
      const end = Math.max(load.get(host)! + transfer + compute(host), load.get(owner)! + transfer);
      if (end < least) [chosen, least] = [h + 1, end];
    });
    give(chosen);
  }
  return counts;
}
