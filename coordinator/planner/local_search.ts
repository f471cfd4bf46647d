/**
 * Good divisions of a model over clusters of any size: a few constructed ones, improved by small changes. Changes are
 * judged by the bound of division.ts and, at the end, by simulation. The same setting always gives the same answer.
 *
 * @module
 */
import { type RandomStream, randomStream } from "../../model/random.ts";
import type { Judge } from "./judge.ts";
import type { Division } from "./division.ts";
import { Moves } from "./division_moves.ts";
import { firstDivisions } from "./first_divisions.ts";

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
  const starts = firstDivisions(judge, limits.stages)
    .map((division) => ({ division, cost: price(judge, division) }))
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
