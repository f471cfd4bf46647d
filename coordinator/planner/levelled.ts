/**
 * The speeds that plans follow: what workers measured, evened out among equal devices, and what their steps have shown.
 *
 * @module
 */
import { meanSpeeds, type Speeds, timesAsFast } from "../../mesh/speed.ts";
import type { Candidate } from "./plan_request.ts";

/** Measurements of equal devices that lie closer than this differ by the moment in which they were made. */
const noise = 4;

/**
 * Gives workers with the same device their common (geometric mean) speed, where they were measured alike: several that
 * join one machine at the same time disturb each other's measurement, and a plan should not follow that. What steps have
 * shown of a worker counts for it alone.
 */
export function levelled(workers: readonly Candidate[]): Candidate[] {
  const byDevice = new Map<string, Speeds[]>();
  for (const { profile } of workers) {
    const whole = timesAsFast(profile, 1 / (profile.lent?.share ?? 1));
    byDevice.set(profile.deviceName, [...byDevice.get(profile.deviceName) ?? [], whole]);
  }
  return workers.map(({ shown, ...worker }) => {
    const { profile } = worker,
      share = profile.lent?.share ?? 1,
      alike = byDevice.get(profile.deviceName)!,
      speeds = alike.map(({ flops }) => flops);
    const own = Math.max(...speeds) >= noise * Math.min(...speeds)
      ? profile
      : timesAsFast(meanSpeeds(alike), share);
    const times = shown === undefined ? 1 : shown * share / own.flops;
    return { ...worker, profile: { ...profile, ...timesAsFast(own, times) } };
  });
}
