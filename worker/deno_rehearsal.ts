/**
 * Compiling a slice's programs on a second core, in Deno.
 *
 * @module
 */
import type { Slice } from "../mesh/plan.ts";

/** A thread that waits for the slice whose programs it compiles. */
export interface Rehearsal {
  /** Begins; the thread ends itself afterwards. Later calls do nothing. */
  begin(slice: Slice): void;
  /** Ends a thread that was never to begin. */
  forget(): void;
}

/**
 * Starts a thread that compiles the programs of the slice that it is handed: once, in a worker whose device was never
 * measured here before, so that its driver's cache knows none. Undefined where one core has to do everything.
 */
export function startRehearsal(): Rehearsal | undefined {
  if (navigator.hardwareConcurrency < 2) return undefined;
  let thread: Worker | undefined = new Worker(new URL("./rehearsal_thread.ts", import.meta.url), {
    type: "module",
    name: "volary-rehearsal",
  });
  // Nothing depends on it: what it leaves is compiled on first use, where whatever is wrong comes up again.
  thread.onerror = (event) => event.preventDefault();
  return {
    begin(slice) {
      thread?.postMessage(slice);
      thread = undefined;
    },
    forget() {
      thread?.terminate();
      thread = undefined;
    },
  };
}
