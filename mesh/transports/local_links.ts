/**
 * Both ends of a link inside one program: what `volary doctor`, benches and tests try roads out with.
 *
 * @module
 */
import { localCredentials } from "../link/handshake_local.ts";
import { type Link, type LinkOptions } from "../link/link.ts";
import { openLink } from "../link/open_link.ts";
import type { Chance, Channel, Clock, Signal, Transport } from "../runtime.ts";
import type { FrameHeader } from "../tensors/frame.ts";
import { signalPair } from "./signal_pair.ts";

/** What links that are only tried out belong to. */
const RUN = "local", GENERATION = 1;

/** Opens a connection from one transport to another; `signals` carry what the two tell each other. */
export async function localChannels(
  [one, other]: readonly [Transport, Transport],
  [mine, theirs]: readonly Signal[] = signalPair(),
): Promise<[Channel, Channel]> {
  return await Promise.all([one.open(mine, true), other.open(theirs, false)]);
}

/** Opens both ends of a link, the workers "a" and "b", over the two ends of a connection. */
export async function localLinks(
  [one, other]: readonly [Channel, Channel],
  clock: Clock & Chance,
  lanes: LinkOptions["lanes"],
): Promise<[Link, Link]> {
  const credentials = await localCredentials(clock, RUN, ["a", "b"]);
  const common = { clock, run: RUN, generation: GENERATION, lanes };
  return await Promise.all([
    openLink(one, { ...common, self: "a", peer: "b", credentials: credentials.a }),
    openLink(other, { ...common, self: "b", peer: "a", credentials: credentials.b }),
  ]);
}

/** The header of such a link's frame number `sequence`, which nobody computes with. */
export function localHeader(sequence: number): FrameHeader {
  return {
    what: "activation",
    evaluate: false,
    generation: GENERATION,
    round: 0,
    index: 0,
    microbatch: 0,
    sequence,
  };
}
