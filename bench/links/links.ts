/**
 * What does a link cost, and what does it carry? Wanted: 0.95 of the goodput of the library's own data channel, native 4
 * times as fast as werift; a consumer that stands still holds what was granted; four connections carry 3 times what one
 * does at 40 ms, no standstill above 6 s; faults are suspected after 1.5 s, nothing is lost.
 *
 * --frames: goodput between two processes. --stall: a consumer that stands still. --codecs: their speed and error. --roads:
 * long and lossy roads, or the one of so many ms and per cent of loss. --faults: a cable cut, a process stopped or killed.
 * Without a flag all of them.
 *
 * @module
 */
import { say, UsageError } from "../../cli/verb.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { codecs } from "./link_codecs.ts";
import { faults } from "./link_faults.ts";
import { frames, TRANSPORTS } from "./link_frames.ts";
import { LOSSES, roads, ROUND_TRIPS } from "./link_roads.ts";
import { stall } from "./link_stall.ts";
import type { Failures } from "./link_text.ts";

/** One line for the list of benches. */
export const title = "links beside raw data channels, stalled consumers, codecs, long roads, faults";

/** Flags besides --json. */
export const flags: BenchFlags = {
  optional: { frames: TRANSPORTS.join("|"), roads: "MS,LOSS" },
  switches: ["stall", "codecs", "faults"],
};

/** Measures and prints; false where a goal is missed. */
export async function run({ flags, ...output }: BenchOptions): Promise<boolean> {
  const one = flags.text("frames") || undefined,
    [ms, lost] = flags.text("roads")?.split(",").filter(Boolean) ?? [];
  if (one !== undefined && !TRANSPORTS.some((each) => each === one)) {
    throw new UsageError(`--frames takes ${TRANSPORTS.join(" or ")}, not "${one}".`);
  }
  const trips = ROUND_TRIPS.filter((each) => ms === undefined || each === Number(ms));
  const losses = LOSSES.filter((each) => lost === undefined || each * 100 === Number(lost));
  if (trips.length === 0 || losses.length === 0) {
    throw new UsageError(
      `--roads takes one of ${ROUND_TRIPS.join(", ")} ms and, behind a comma, of ${
        LOSSES.map((each) => each * 100).join(", ")
      } per cent.`,
    );
  }
  const parts: Record<string, () => Failures | Promise<Failures>> = {
    frames: () => frames(output, one),
    stall: () => stall(output),
    codecs: () => codecs(output),
    roads: () => roads(output, trips, losses),
    faults: () => faults(output),
  };
  const asked = Object.keys(parts).filter(flags.has);
  const failures: Failures = [];
  for (const part of asked.length > 0 ? asked : Object.keys(parts)) failures.push(...await parts[part]());
  for (const failure of failures) say(`missed: ${failure}`);
  return failures.length === 0;
}
