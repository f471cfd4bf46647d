/**
 * Two ends that signal to each other within a program.
 *
 * @module
 */
import type { Signal } from "../runtime.ts";

/** Two signals, each the other end of the other; bodies go through a copy as they would over a network. */
export function signalPair(): [Signal, Signal] {
  const make = () => {
    let handler: ((body: unknown) => void) | undefined;
    const early: unknown[] = [];
    const end = {
      other: undefined as unknown as { receive(body: unknown): void },
      receive(body: unknown) {
        if (handler) handler(body);
        else early.push(body);
      },
      send(body: unknown) {
        const copy = structuredClone(body);
        queueMicrotask(() => end.other.receive(copy));
      },
      get onbody() {
        return handler;
      },
      set onbody(next: ((body: unknown) => void) | undefined) {
        handler = next;
        while (handler && early.length > 0) handler(early.shift());
      },
    };
    return end;
  };
  const a = make(), b = make();
  a.other = b;
  b.other = a;
  return [a, b];
}
