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

/**
 * Deals equal pieces of work to workers who already have some: each piece goes to the one that would finish it first (of
 * equal ones the first in the list). Changes `load` (work so far by worker) and answers with the pieces for each holder.
 */
export function deal(
  pieces: number,
  cost: number,
  holders: readonly string[],
  load: Map<string, number>,
  speed: (worker: string) => number,
): number[] {
  const counts = holders.map(() => 0);
  for (let piece = 0; piece < pieces; piece++) {
    let chosen = 0, least = Infinity;
    holders.forEach((holder, h) => {
      const end = (load.get(holder)! + cost) / speed(holder);
      if (end < least) [chosen, least] = [h, end];
    });
    counts[chosen]++;
    load.set(holders[chosen], load.get(holders[chosen])! + cost);
  }
  return counts;
}
