/**
 * Taking messages of a channel one at a time; those behind wait in the channel, unread.
 *
 * @module
 */
import type { Channel } from "../runtime.ts";

/** The next message, in memory of its own. Whoever asks also watches over `channel.closed` and the time. */
export function nextMessage(channel: Channel): Promise<Uint8Array<ArrayBuffer>> {
  return new Promise((resolve) => {
    channel.onmessage = (message) => {
      channel.onmessage = undefined;
      resolve(message.slice()); // a channel may use its memory again
    };
  });
}
