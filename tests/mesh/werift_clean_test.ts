/** Alone in its file: timers of other tests' connections would run out during this one. */
import { assertRejects } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { localChannels, localLinks } from "../../mesh/transports/local_links.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { clean } from "../compliance/clean.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";

Deno.test(
  "connections that closed, died or never opened leave no socket, timer or listener",
  clean,
  async () => {
    const clock = denoRuntime(), transport = weriftTransport({ clock, loopback: true });
    const hasty = weriftTransport({ clock: { ...clock, timer: (ms, fire) => clock.timer(ms / 10, fire) } });
    const [alone] = signalPair();
    await assertRejects(() => hasty.open(alone, true), LinkError);
    for (const orderly of [true, false]) {
      const [a, b] = await localChannels([transport, transport]);
      const [x, y] = await localLinks([a, b], clock, { pipeline: 9, request: 9, reply: 9 });
      if (orderly) x.close();
      else a.close("killed");
      await Promise.all([x.closed, y.closed, a.closed, b.closed]);
    }
    // The handshake's own timers, which nothing can cancel.
    await new Promise<void>((resolve) => clock.timer(2_500, resolve));
  },
);
