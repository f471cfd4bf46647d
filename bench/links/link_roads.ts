/**
 * Goodput of links over long and lossy roads: through the seeded relay, for one connection, for four, and for as many as the
 * link itself opens.
 *
 * @module
 */
import { cpuUsage } from "node:process";
import type { Output } from "../harness/bench.ts";
import { ends } from "./link_pair.ts";
import type { Failures } from "./link_text.ts";
import { Relay } from "./relay.ts";

/** Round trips in ms, and loss each way. */
export const ROUND_TRIPS = [10, 40, 100], LOSSES = [0, 0.005, 0.02];
/** Connections side by side; the last: as the link finds that the road asks. */
const PATHS = [1, 4, undefined] as const;
/** Time of one measurement, ms: as long as the longest standstill that is allowed. */
const ROAD_MS = 6_000;
const LONGEST_GAP_MS = 6_000;

/** Measures roads of these round trips and losses. */
export async function roads(
  output: Output,
  trips: readonly number[],
  losses: readonly number[],
): Promise<Failures> {
  const failures: Failures = [];
  output.print(
    "\nwerift through a seeded relay, frames of 64 KiB: MB/s, longest time without a frame, processor's share of sender, " +
      "receiver and relay",
    `  ${"round trip".padEnd(11)}${"loss".padEnd(7)}${
      PATHS.map((n) => (n === undefined ? "as it finds" : `${n} connection${n > 1 ? "s" : ""}`).padEnd(32))
        .join("")
    }`,
  );
  let longest = 0;
  for (const roundTrip of trips) {
    for (const loss of losses) {
      const result = await road(roundTrip, loss, output);
      failures.push(...result.failures);
      longest = Math.max(longest, result.longest);
    }
  }
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
  output.print(
    `  longest time without a frame: ${seconds(longest)}, at most ${seconds(LONGEST_GAP_MS)} wanted`,
  );
  return failures;
}

async function road(
  roundTrip: number,
  loss: number,
  { record, print }: Output,
): Promise<{ failures: Failures; longest: number }> {
  const rates: number[] = [], cells: string[] = [], failures: Failures = [];
  let longest = 0;
  for (const paths of PATHS) {
    const relay = new Relay({ roundTrip, loss, seed: roundTrip * 1_000 + loss * 1_000 + (paths ?? 0) });
    const options = { transport: "werift", frameBytes: 64 << 10, ...(paths ? { paths } : {}) } as const;
    const before = cpuUsage();
    try {
      const { received, cpu, paths: opened } = await ends({ ...options, ms: ROAD_MS }, options, relay);
      const { bytesPerSecond, longestGap, wrong } = received, { user, system } = cpuUsage(before);
      const busy = [...cpu, (user + system) / 1e6].map((seconds) => Math.round(seconds / ROAD_MS * 1e5));
      rates.push(bytesPerSecond);
      longest = Math.max(longest, longestGap);
      cells.push(
        `${(bytesPerSecond / 1e6).toFixed(2)} (${(longestGap / 1_000).toFixed(1)} s; ${busy.join(" ")} %)` +
          (paths === undefined ? ` over ${opened}` : ""),
      );
      const name = `${roundTrip} ms, ${loss * 100} % loss, ${opened} connections`;
      record({ roundTrip, loss, paths: opened, bytesPerSecond, longestGap, busy });
      if (longestGap > LONGEST_GAP_MS) {
        failures.push(`${name}: no frame for ${(longestGap / 1_000).toFixed(1)} s`);
      }
      if (wrong > 0) failures.push(`${name}: ${wrong} frames lost, doubled or out of order`);
    } finally {
      relay.close();
    }
  }
  print(
    `  ${`${roundTrip} ms`.padEnd(11)}${`${loss * 100} %`.padEnd(7)}${
      cells.map((cell) => cell.padEnd(32)).join("")
    }four: ${(rates[1] / rates[0]).toFixed(1)} times`,
  );
  if (roundTrip === 40 && loss === 0 && rates[1] < 3 * rates[0]) {
    failures.push(
      `four connections carry ${(rates[1] / rates[0]).toFixed(1)} times what one does at 40 ms, goal 3`,
    );
  }
  return { failures, longest };
}
