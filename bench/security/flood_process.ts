/**
 * Connections to a coordinator that go no further, for bench/security/admission.ts. Arguments: an invite, how many, and "silent" or
 * "knock" (they begin the handshake). Prints a line once all are on their way; each comes again a second after it is shut.
 *
 * @module
 */
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { meetCoordinator } from "../../mesh/control/handshake_control.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { parseInvite } from "../../mesh/identity/invite.ts";
import { webSocketChannel } from "../../mesh/transports/websocket_channel.ts";

const [line, count, how] = Deno.args, invite = parseInvite(line), runtime = denoRuntime();
const identity = await newIdentity();
for (let i = 0; i < Number(count); i++) stay();
console.log("begun");

async function stay(): Promise<never> {
  for (;;) {
    try {
      const channel = await webSocketChannel(new WebSocket(invite.address), runtime);
      if (how === "knock") {
        await meetCoordinator(channel, invite, { clock: runtime, chance: runtime, identity });
      }
      await channel.closed;
    } catch {
      // It was shut before it was open: once more.
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}
