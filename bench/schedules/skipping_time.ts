/**
 * What a step costs in time when microbatches leave stages out: rounds of twenty workers in twelve regions (the cluster
 * published with SkipPipe) that hold four stages of a model, on the simulator's clock.
 *
 * @module
 */
import type { Route } from "../../coordinator/routes/route_round.ts";
import { searchRoutes } from "../../coordinator/routes/route_search.ts";
import { skipPaths } from "../../coordinator/routes/skip_schedule.ts";
import { forwardSeconds, microbatches, rulesOf } from "./skippipe_case.ts";

/** Stages that the model is cut into here; the published case has six, of two thirds of the work each. */
export const STAGES = 4;

const WORKERS = 20, PUBLISHED_STAGES = 6;

/** Workers of each stage, about as many as its share of the passes: all microbatches visit the first. */
function holders(visits: number): number[][] {
  const share = (visits - 1) / (STAGES - 1), first = Math.round(WORKERS / (1 + (STAGES - 1) * share));
  const counts = Array.from(
    { length: STAGES },
    (_, s) => s === 0 ? first : Math.floor((WORKERS - first + s - 1) / (STAGES - 1)),
  );
  let next = 0;
  return counts.map((count) => Array.from({ length: count }, () => next++));
}

/** A simulated round. */
export interface RoundTime {
  /** Stages that each microbatch visits. */
  readonly visits: number;
  /** Seconds of a forward pass of one stage. */
  readonly forward: number;
  readonly seconds: number;
}

/** The shortest round found after `changes` changes: routes, beginnings and the places of workers are free, the work of a stage is not. */
export async function roundTime(visits: number, changes: number): Promise<RoundTime> {
  const forward = forwardSeconds[0] * PUBLISHED_STAGES / STAGES, stages = holders(visits);
  const routes: Route[] = skipPaths(STAGES, microbatches, visits).map((path, m) =>
    path.map((stage) => stages[stage][m % stages[stage].length])
  );
  const ordered = visits === STAGES, times: number[] = [];
  for (const order of ["arrival", "backward"] as const) {
    const rules = { ...await rulesOf("ours", forward), order };
    const free = { freeStarts: true, freePlaces: true };
    const options = { workers: WORKERS, stages, rules, ordered, ...free, seed: 1, changes };
    times.push(searchRoutes(routes, options).seconds);
  }
  return { visits, forward, seconds: Math.min(...times) };
}
