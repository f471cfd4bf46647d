/**
 * Twenty workers in twelve regions as published with SkipPipe (Blagoev, Chen, Ersoy 2025): which worker holds which stage,
 * the paths that its schedulers chose, the rules and the times. Links are in examples/clusters/twelve_regions.toml.
 *
 * @module
 */
import { parseCluster } from "../../coordinator/cost/cluster.ts";
import type { Route, RouteRules } from "../../coordinator/routes/route_round.ts";

/** Workers of each stage. */
export const stages: readonly (readonly number[])[] = [
  [0, 3, 4, 10, 11],
  [15, 8, 14],
  [1, 9, 6],
  [16, 12, 13],
  [5, 18, 7],
  [17, 2, 19],
];

/** Microbatches of a round. */
export const microbatches = 30;

/** Published routes: each microbatch visits 4 of the 6 stages, the first always. A list is gone through again and again. */
export const published: Readonly<Record<"conflictAware" | "conflictUnaware" | "random", readonly Route[]>> = {
  conflictAware: [
    [0, 14, 6, 12],
    [3, 15, 17, 5],
    [4, 7, 13, 19],
    [10, 1, 18, 2],
    [11, 8, 16, 9],
  ],
  conflictUnaware: [
    [0, 12, 5, 19],
    [0, 1, 19, 18],
    [0, 6, 18, 17],
    [3, 12, 6, 2],
    [3, 14, 12, 2],
    [3, 6, 14, 13],
    [4, 15, 13, 7],
    [4, 15, 5, 17],
    [4, 15, 13, 7],
    [10, 1, 17, 5],
    [10, 1, 7, 2],
    [10, 14, 18, 19],
    [11, 8, 16, 9],
    [11, 8, 16, 9],
    [11, 8, 16, 9],
  ],
  random: [
    [0, 12, 7, 17],
    [0, 14, 16, 9],
    [0, 1, 8, 19],
    [3, 12, 7, 17],
    [3, 15, 6, 5],
    [3, 1, 8, 19],
    [4, 13, 18, 2],
    [4, 15, 6, 5],
    [4, 1, 8, 19],
    [10, 13, 18, 2],
    [10, 15, 6, 5],
    [10, 14, 16, 9],
    [11, 13, 18, 2],
    [11, 12, 7, 17],
    [11, 14, 16, 9],
  ],
};

/** Published seconds of an iteration at 0.44 s and 1.76 s a forward pass. */
export const publishedSeconds = {
  conflictAware: [33.31, 68.55],
  conflictUnaware: [35.43, 75.81],
  random: [48.92, 87.17],
  /** Every microbatch through all stages: 27 microbatches on 18 of the 20 workers; its routes were not published. */
  full: [79.94, 154.2],
} as const;

/** Seconds of a forward pass of a stage. */
export const forwardSeconds = [0.44, 1.76] as const;

/** Seconds that every transfer takes besides latency and bandwidth. */
const fixed = 0.35;

/** Routes for all microbatches. */
export function routesOf(routes: readonly Route[]): Route[] {
  return Array.from({ length: microbatches }, (_, m) => routes[m % routes.length]);
}

/** The way between London and the Netherlands, bytes a second: published as 2 Mbit/s, probably meant as 1,985. */
const publishedSlip = 2e6 / 8, probablyMeant = 1_985e6 / 8;

/**
 * Rules of a round: the published simulator's, or ours. `slower` multiplies the time of each worker; `asMeant` takes the
 * value that was probably meant for the one way that is a thousand times slower than its neighbours.
 */
export async function rulesOf(
  kind: "published" | "ours",
  forward: number,
  slower: readonly number[] = [],
  asMeant = false,
): Promise<RouteRules> {
  const path = new URL("../../examples/clusters/twelve_regions.toml", import.meta.url);
  const cluster = parseCluster(await Deno.readTextFile(path)), bytes = 33_554_432;
  const shared = {
    forward: (worker: number) => forward * (slower[worker] ?? 1),
    backward: 1.5,
    head: 0.25,
    bytes,
    memory: 3,
  };
  const speed = (a: number, b: number) => {
    const link = cluster.link(a, b)!;
    return asMeant && link.bandwidth <= publishedSlip ? { ...link, bandwidth: probablyMeant } : link;
  };
  if (kind === "ours") {
    // No pauses; a link carries one frame after another.
    const link = (a: number, b: number) => ({ ...speed(a, b), latency: speed(a, b).latency + fixed });
    return { ...shared, link, pause: 0, order: "backward" };
  }
  // Transfers do not delay one another; workers pause; the second half begins where the first has ended.
  const link = (a: number, b: number) => ({
    latency: speed(a, b).latency + bytes / speed(a, b).bandwidth + fixed,
    bandwidth: Infinity,
  });
  return { ...shared, link, pause: 0.13, order: "arrival", wave: microbatches / 2 };
}
