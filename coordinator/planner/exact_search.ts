/**
 * Every way to divide a model over a small cluster: which workers hold stages, in which order, where the layers are cut,
 * and which experts of each stage lie on workers without one.
 *
 * @module
 */
import type { Judge } from "./judge.ts";
import type { Division, Part } from "./division.ts";

/** How many divisions there are. */
export function countDivisions(workers: number, layers: number, experts: number): number {
  let count = 0;
  for (let stages = 1; stages <= Math.min(workers, layers); stages++) {
    const orders = falling(workers, stages), cuts = choose(layers - 1, stages - 1);
    const hosts = workers - stages, placements = experts === 0 ? 1 : choose(experts + hosts, hosts);
    count += orders * cuts * placements ** stages;
  }
  return count;
}

function falling(n: number, k: number): number {
  let product = 1;
  for (let i = 0; i < k; i++) product *= n - i;
  return product;
}

function choose(n: number, k: number): number {
  let product = 1;
  for (let i = 1; i <= k; i++) product = product * (n - k + i) / i;
  return Math.round(product);
}

/** All divisions; see {@linkcode countDivisions} for how many. */
export function* divisions(workers: number, layers: number, experts: number): Generator<Division> {
  for (let stages = 1; stages <= Math.min(workers, layers); stages++) {
    for (const holders of orders(workers, stages)) {
      const hosts = Array.from({ length: workers }, (_, w) => w).filter((w) => !holders.includes(w));
      const placements = [...shares(hosts, experts)];
      for (const spans of compositions(layers, stages)) {
        yield* placed(holders, spans, placements, []);
      }
    }
  }
}

function* placed(
  holders: readonly number[],
  spans: readonly number[],
  placements: readonly Part["remote"][],
  before: readonly Part[],
): Generator<Division> {
  const s = before.length;
  if (s === holders.length) return yield before;
  for (const remote of placements) {
    yield* placed(holders, spans, placements, [...before, { worker: holders[s], layers: spans[s], remote }]);
  }
}

/** Ordered choices of `k` of n workers. */
function* orders(n: number, k: number, before: readonly number[] = []): Generator<readonly number[]> {
  if (before.length === k) return yield before;
  for (let w = 0; w < n; w++) if (!before.includes(w)) yield* orders(n, k, [...before, w]);
}

/** `n` as sums of `k` positive numbers. */
function* compositions(n: number, k: number): Generator<readonly number[]> {
  if (k === 1) return yield [n];
  for (let first = 1; first <= n - k + 1; first++) {
    for (const rest of compositions(n - first, k - 1)) yield [first, ...rest];
  }
}

/** Ways to give up to `experts` experts to hosts. */
function* shares(hosts: readonly number[], experts: number): Generator<Part["remote"]> {
  if (hosts.length === 0 || experts === 0) return yield [];
  const [host, ...others] = hosts;
  for (let n = 0; n <= experts; n++) {
    for (const rest of shares(others, experts - n)) yield n === 0 ? rest : [[host, n], ...rest];
  }
}

/**
 * The division with the shortest simulated round, among all that fit; `start` if none is better. Divisions whose bound
 * is not below the best so far are not simulated: they cannot win.
 */
export function searchAll(
  judge: Judge,
  start: { readonly division: Division; readonly seconds: number } | undefined,
): { readonly division: Division; readonly seconds: number } | undefined {
  const { config, cluster } = judge.setting;
  let best = start;
  for (const division of divisions(cluster.workers.length, config.layers, config.experts)) {
    const bound = judge.bound(division);
    if (!(bound < (best?.seconds ?? Infinity)) || judge.shortage(division) > 0) continue;
    const { seconds } = judge.simulate(division);
    if (best === undefined || seconds < best.seconds) best = { division, seconds };
  }
  return best;
}
