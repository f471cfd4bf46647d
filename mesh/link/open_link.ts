/**
 * Opening a link over one channel.
 *
 * @module
 */
import { Bundle } from "./bundle.ts";
import { ChannelLink } from "./channel_link.ts";
import { LinkError } from "../errors.ts";
import { greet } from "./greeting.ts";
import type { Link, LinkOptions } from "./link.ts";
import type { Channel } from "../runtime.ts";

/**
 * Opens a link over one channel: both ends prove who they are and are ready. Rejects with `LinkError` when the peer does not
 * answer in time, or speaks another version, is in another generation or cannot prove that it is the expected worker of the
 * run at the end of this very connection. The link ends with the channel; one that outlives its channels is a matter of
 * worker/linking.ts.
 */
export function openLink(channel: Channel, options: LinkOptions): Promise<Link> {
  const bundle = new Bundle(options), link = new ChannelLink(bundle, options);
  greet(channel, options).then(
    () => bundle.add(channel),
    (error) => link.giveUp(new LinkError(`Cannot open a link to ${options.peer}: ${error.message}`)),
  );
  return link.opened;
}
