/**
 * The first words on a channel between two workers: who each end is. Everything that must hold before anything else is
 * read belongs here; a channel that was greeted is trusted to be the peer's. Messages that come meanwhile wait in the
 * channel.
 *
 * @module
 */
import { LinkError } from "./errors.ts";
import { limits } from "./limits.ts";
import { decodeAbort, decodeHello, encodeAbort, encodeHello, KIND } from "./link_wire.ts";
import { PROTOCOL_VERSION } from "./messages.ts";
import type { Channel, Clock } from "./runtime.ts";

/** Who greets whom. */
export interface Greeting {
  readonly clock: Clock;
  /** This worker's id and the id that the other end must give. */
  readonly self: string;
  readonly peer: string;
  readonly run: string;
  readonly generation: number;
}

/**
 * Exchanges hellos over a channel that nobody listens to yet. Resolves once the other end is the peer that is expected;
 * rejects with `LinkError` (or `MessageError`), after which the channel closes by itself.
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
    await converse(channel, greeting, () => Promise.race([late.promise, next(channel)]));
  } catch (error) {
    refuse(channel, clock, error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    timer.cancel();
  }
}

async function converse(
  channel: Channel,
  { self: id, peer, run, generation }: Greeting,
  next: () => Promise<Uint8Array<ArrayBuffer>>,
): Promise<void> {
  channel.send(encodeHello(PROTOCOL_VERSION, { run, generation, id }));
  const hello = decodeHello(await next(), PROTOCOL_VERSION);
  if (hello.run !== run) throw new LinkError("The peer belongs to another run");
  if (hello.generation !== generation) {
    throw new LinkError(`The peer is in generation ${hello.generation}, this worker in ${generation}`);
  }
  if (hello.id !== peer) throw new LinkError(`The peer says it is "${hello.id}", expected "${peer}"`);
}

/** The next message of a channel; those behind it wait. Rejects where the peer gives up instead. */
function next(channel: Channel): Promise<Uint8Array<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    channel.onmessage = (message) => {
      channel.onmessage = undefined;
      if (message[0] === KIND.abort) reject(new LinkError(`the peer refuses: ${decodeAbort(message)}`));
      else resolve(message.slice()); // a channel may use its memory again
    };
  });
}

/** Tells the other end why, if it takes it within a moment. */
function refuse(channel: Channel, clock: Clock, reason: string): void {
  // Whoever reads the reason closes, as closing here could overtake it.
  channel.onmessage = (message) => {
    if (message[0] === KIND.abort) channel.close(reason);
  };
  try {
    channel.send(encodeAbort(reason));
  } catch {
    return channel.close(reason); // closed already
  }
  const timer = clock.timer(limits.suspectedMs, () => channel.close(reason));
  channel.closed.then(() => timer.cancel());
}
