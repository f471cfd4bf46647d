/**
 * What is left of commands on the host: objects of JavaScript whose memory in the driver the engine does not see.
 *
 * @module
 */

/**
 * Leftovers after which the engine is asked to collect them: a submission leaves 2.7 KB, a bind group that is not used
 * again 1.4 KB (Deno 2.9.6), so that a few MB lie around instead of tens: the engine by itself collects when its own heap
 * has grown, which says nothing about these.
 */
const MOST = 1000;

/** The engine's own function, where it was started with `--expose-gc`. */
type Collect = (options: { type: "major"; execution: "async" }) => unknown;

/** Counts leftovers and has them collected, where the engine can be asked to. */
export class Leftovers {
  #count = 0;

  add(): void {
    if (++this.#count < MOST) return;
    this.#count = 0;
    // Not now: whatever the call stack still holds would stay.
    (globalThis as { gc?: Collect }).gc?.({ type: "major", execution: "async" });
  }
}
