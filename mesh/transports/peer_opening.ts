/**
 * The part of opening a data channel that is the same for every WebRTC stack: how long it may take, and what is said and
 * tidied up when it fails.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Channel, Clock, Signal } from "../runtime.ts";

/** A channel that will open. */
interface Opening extends Channel {
  readonly opened: Promise<void>;
}

/**
 * Runs `negotiate` and waits until `channel` is open; answers with what was negotiated. Rejects with `LinkError` where
 * that fails or takes longer than `limits.connectMs`; the channel is closed then. Afterwards nobody listens to `signal`.
 */
export async function openPeer<T>(
  clock: Clock,
  channel: Opening,
  signal: Signal,
  negotiate: () => Promise<T>,
): Promise<T> {
  const timer = clock.timer(limits.connectMs, () => {
    channel.close(
      `no connection after ${limits.connectMs / 1_000} s (try again; is UDP blocked between the two?)`,
    );
  });
  const gone = channel.closed.then((reason) => {
    throw new LinkError(`Cannot connect to the peer: ${reason}`);
  });
  gone.catch(() => {}); // the channel may also close later, when nobody waits here
  try {
    const negotiated = await Promise.race([gone, negotiate()]);
    await Promise.race([gone, channel.opened]);
    return negotiated;
  } catch (error) {
    channel.close("could not be opened");
    if (error instanceof LinkError) throw error;
    throw new LinkError(`Cannot connect to the peer: ${error instanceof Error ? error.message : error}`);
  } finally {
    timer.cancel();
    signal.onbody = undefined;
  }
}
