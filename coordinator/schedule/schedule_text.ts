/**
 * The choice of a schedule in words.
 *
 * @module
 */
import type { Alternative, OrderName } from "./schedules.ts";

/** Which schedule was taken with which predicted step, and what the others would have been; nothing where none was compared. */
export function scheduleLines(
  schedule: OrderName,
  predicted: number,
  others: readonly Alternative[] = [],
): string[] {
  if (others.length === 0) return [];
  const timed = others.flatMap(({ schedule, seconds }) =>
    seconds === undefined ? [] : [`${schedule} ${shortTime(seconds)}`]
  );
  const refused = others.flatMap(({ schedule, why }) => why === undefined ? [] : [`${schedule}: ${why}`]);
  return [
    `The schedule is ${schedule} (${shortTime(predicted)} a step)` +
    (timed.length > 0 ? `; beside it ${timed.join(", ")}.` : "."),
    ...refused.map((line) => `  not ${line}`),
  ];
}

/** Seconds with three digits and a unit. */
export function shortTime(seconds: number): string {
  if (seconds >= 1) return `${seconds.toPrecision(3)} s`;
  return seconds >= 1e-3 ? `${(seconds * 1e3).toPrecision(3)} ms` : `${(seconds * 1e6).toPrecision(3)} µs`;
}
