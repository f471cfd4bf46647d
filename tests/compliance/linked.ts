/** What tests of links share: a header for their frames, and two workers "a" and "b" whose link opens channels as it needs them. */
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import type { Link, LinkOptions } from "../../mesh/link/link.ts";
import type { Clock, Transport } from "../../mesh/runtime.ts";
import type { FrameHeader } from "../../mesh/tensors/frame.ts";
import { localHeader } from "../../mesh/transports/local_links.ts";
import { Linking } from "../../worker/linking.ts";

/** The generation of links and frames. */
export const GENERATION = 7;

/** Both workers' credentials of the run "run". */
export const credentials = await localCredentials(denoRuntime(), "run", ["a", "b"]);

/** The header of a frame of this generation. */
export function header(sequence = 0, more: Partial<FrameHeader> = {}): FrameHeader {
  return { ...localHeader(sequence), generation: GENERATION, ...more };
}

/** Both ends of one link before it is open. Signals take `signalMs` on the clock; absent: a microtask. */
export function linkings(
  [ta, tb]: readonly [Transport, Transport],
  { clock, lanes, signalMs }: {
    readonly clock: Clock;
    readonly lanes: LinkOptions["lanes"];
    readonly signalMs?: number;
  },
): { readonly a: Linking; readonly b: Linking } {
  const ends: { a?: Linking; b?: Linking } = {};
  const later = (call: () => void) =>
    signalMs === undefined ? queueMicrotask(call) : void clock.timer(signalMs, call);
  const end = (self: "a" | "b", peer: "a" | "b", transport: Transport) =>
    new Linking({
      transport,
      clock,
      self,
      peer,
      run: "run",
      generation: GENERATION,
      credentials: credentials[self],
      lanes,
      signal: (body) => later(() => ends[peer]?.receive(structuredClone(body))),
    });
  const a = ends.a = end("a", "b", ta), b = ends.b = end("b", "a", tb);
  return { a, b };
}

/** The same once it is open; on a virtual clock somebody must let time pass. */
export function linked(...ends: Parameters<typeof linkings>): Promise<[Link, Link]> {
  const { a, b } = linkings(...ends);
  return Promise.all([a.link, b.link]);
}
