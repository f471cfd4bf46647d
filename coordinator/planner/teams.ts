/**
 * Which workers make up which replica, and how much of a round each replica gets.
 *
 * @module
 */
import { PlanInfeasible } from "../errors.ts";
import type { Candidate, PlanRequest } from "./plan_request.ts";

/** The workers of one pipeline, fastest first, and its shares of a round. */
export interface Team {
  readonly workers: readonly Candidate[];
  readonly shares: readonly number[];
}

/**
 * Deals workers (given fastest first) to pipelines so that their speeds fit their shares; without given shares, shares
 * follow the speeds. Throws {@linkcode PlanInfeasible}.
 */
export function teamsOf(
  { shares, replicas, shape }: Pick<PlanRequest, "shares" | "replicas" | "shape">,
  ranked: readonly Candidate[],
): Team[] {
  const { microbatches } = shape;
  const given = shares?.reduce((sum, share) => sum + share, 0);
  if (given !== undefined && given !== microbatches) {
    throw new PlanInfeasible(
      `The shares ${shares!.join(" + ")} come to ${given} microbatches, but a step has ${microbatches}: ` +
        `set [mesh] shares to numbers that add up to ${microbatches}.`,
    );
  }
  const count = replicas ?? Math.min(shares?.length ?? 1, ranked.length),
    most = shares?.length ?? microbatches;
  if (count > most) {
    throw new PlanInfeasible(
      `${count} replicas cannot share ${most} ${shares ? "shares" : "microbatches"}; each needs at ` +
        `least one: set [mesh] replicas to at most ${most}, or cut the batch into more microbatches.`,
    );
  }
  if (count > ranked.length) {
    throw new PlanInfeasible(
      `${count} replicas need ${count} workers, but ${ranked.length} ` +
        `${ranked.length === 1 ? "has" : "have"} joined: start ${count - ranked.length} more, or set ` +
        "[mesh] replicas.",
    );
  }
  const dealt = shares && dealtShares(shares, count);
  const weights = dealt?.map((own) => own.reduce((a, b) => a + b, 0)) ?? new Array<number>(count).fill(1);
  const teams = dealWorkers(ranked, weights);
  return teams.map((workers, t) => ({
    workers,
    shares: dealt?.[t] ?? [proportional(microbatches, teams.map(speedOf))[t]],
  }));
}

/** The first pipeline takes what is left, as only it may have several. */
function dealtShares(shares: readonly number[], count: number): number[][] {
  const first = shares.length - count + 1;
  return [shares.slice(0, first), ...shares.slice(first).map((share) => [share])];
}

function speedOf(workers: readonly Candidate[]): number {
  return workers.reduce((sum, { profile }) => sum + Math.max(1, profile.flops), 0);
}

/** Each worker goes to the team that has least speed for its weight; at first each team gets one, the heaviest first. */
function dealWorkers(ranked: readonly Candidate[], weights: readonly number[]): Candidate[][] {
  const teams = weights.map((): Candidate[] => []);
  for (const worker of ranked) {
    let chosen = 0;
    for (let t = 1; t < teams.length; t++) {
      const [a, b] = [t, chosen].map((place) =>
        teams[place].length === 0 ? 0 : speedOf(teams[place]) / weights[place]
      );
      if (a < b || (a === 0 && b === 0 && weights[t] > weights[chosen])) chosen = t;
    }
    teams[chosen].push(worker);
  }
  return teams;
}

/** `whole` as whole numbers of at least one in proportion to weights: by largest remainder, the earlier first. */
export function proportional(whole: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0), rest = whole - weights.length;
  const exact = weights.map((weight) => rest * weight / sum);
  const parts = exact.map(Math.floor);
  const order = exact.map((value, i) => ({ i, left: value - Math.floor(value) }))
    .sort((a, b) => b.left - a.left || a.i - b.i);
  const missing = rest - parts.reduce((a, b) => a + b, 0);
  for (const { i } of order.slice(0, missing)) parts[i]++;
  return parts.map((part) => part + 1);
}
