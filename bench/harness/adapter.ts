/**
 * The software adapter that benches measure on.
 *
 * @module
 */

/**
 * Gives Mesa's software adapter one thread, as each worker of a mesh and each peer has one; it takes every core unless the
 * environment says otherwise. Call before the first device is opened.
 */
export function oneThread(): void {
  if (!Deno.env.has("LP_NUM_THREADS")) Deno.env.set("LP_NUM_THREADS", "1");
}
