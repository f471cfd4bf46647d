/**
 * The first words on a channel between two workers: who each end is. Everything that must hold before anything else is
 * read belongs here; a channel that was greeted is trusted to be the peer's. Messages that come meanwhile wait in the
 * channel.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { type Meeting, refusal, shakeHands } from "./handshake.ts";
import { limits } from "../limits.ts";
import { KIND } from "./link_wire.ts";
import { nextMessage } from "../control/next_message.ts";
import type { Channel, Clock } from "../runtime.ts";

/** Who greets whom, in what time. */
export interface Greeting extends Meeting {
  readonly clock: Clock;
}

/**
 * Has both ends of a channel that nobody listens to yet prove who they are. Resolves once the other end is the peer that is
 * expected; rejects with `LinkError`, after which the channel closes by itself.
 */
export async function greet(channel: Channel, greeting: Greeting): Promise<void> {
  const { clock, peer } = greeting, late = Promise.withResolvers<never>();
  late.promise.catch(() => {}); // it may come when nobody waits any more
  const timer = clock.timer(
    limits.connectMs,
    () =>
      late.reject(
        new LinkError(`${peer} did not answer on the new link within ${limits.connectMs / 1_000} s`),
      ),
  );
  channel.closed.then((reason) => late.reject(new LinkError(`the connection is gone: ${reason}`)));
  try {
    await shakeHands(greeting, channel.binding, {
      send: (message) => channel.send(message),
      next: () => Promise.race([late.promise, nextMessage(channel)]),
    });
  } catch (error) {
    refuse(channel, clock, error);
    throw error;
  } finally {
    timer.cancel();
  }
}

/** Tells the other end why, if it takes it within a moment. */
function refuse(channel: Channel, clock: Clock, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  // Whoever reads the reason closes, as closing here could overtake it.
  channel.onmessage = (message) => {
    if (message[0] === KIND.abort || message[0] === KIND.refuse) channel.close(reason);
  };
  try {
    channel.send(refusal(error));
  } catch {
    return channel.close(reason); // closed already
  }
  const timer = clock.timer(limits.suspectedMs, () => channel.close(reason));
  channel.closed.then(() => timer.cancel());
}
