/**
 * Long work on the coordinator's thread stops now and then, so that workers hear from it.
 *
 * @module
 */
import type { Clock } from "../mesh/runtime.ts";

/** Lets everything that waits have its turn: messages, timers, signs of life. */
export function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => void clock.timer(0, resolve));
}
