/**
 * Ctrl-C: the first one ends in order, the second one at once.
 *
 * @module
 */

/**
 * `deno task` passes a terminal's Ctrl-C on to the program that it started, which has it from the terminal already: a
 * signal within this time is the same one once more. Nobody presses twice as fast on purpose.
 */
const SAME_MS = 500;
/** What a shell says of a program that Ctrl-C ended. */
const INTERRUPTED = 130;

/**
 * Calls `first` at the first Ctrl-C or request to end, `again` at the next one; by default that one ends the process.
 * Answers with what stops listening. `now` is a clock in ms.
 */
export function onInterrupt(
  first: () => void,
  again: () => void = () => Deno.exit(INTERRUPTED),
  now: () => number = () => performance.now(),
): () => void {
  let began: number | undefined;
  const hear = () => {
    if (began === undefined) {
      began = now();
      first();
    } else if (now() - began >= SAME_MS) again();
  };
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, hear);
  return () => {
    for (const signal of signals) Deno.removeSignalListener(signal, hear);
  };
}
