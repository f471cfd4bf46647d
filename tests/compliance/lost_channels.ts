/**
 * Links that outlive a channel, or end with the last one, on every transport that lives in real time. They run with
 * links_test.ts, as native.ts does and for the same reason.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { LinkError } from "../../mesh/errors.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import type { Channel, Clock, Transport } from "../../mesh/runtime.ts";
import { clean, lenient } from "./clean.ts";
import { expectFrames, header, pattern, sizes } from "./frames.ts";
import { linked } from "./linked.ts";
import { transports } from "./transports.ts";

/** A channel of which nothing comes out any more once it is a black hole, and nobody is told. */
function blackHole(inner: Channel): { channel: Channel; swallow(): void } {
  let swallows = false;
  const channel = Object.create(inner, {
    send: { value: (message: Uint8Array<ArrayBuffer>) => void (swallows || inner.send(message)) },
    onmessage: {
      get: () => inner.onmessage,
      set: (handler: Channel["onmessage"]) =>
        inner.onmessage = handler && ((message) => void (swallows || handler(message))),
    },
    buffered: { value: () => inner.buffered() },
    drained: { value: (bytes: number) => inner.drained(bytes) },
    close: { value: (reason?: string) => inner.close(reason) },
    binding: { get: () => inner.binding },
    closed: { get: () => inner.closed },
    maxMessage: { get: () => inner.maxMessage },
    kind: { get: () => inner.kind },
  }) as Channel;
  return { channel, swallow: () => swallows = true };
}

/** A transport whose channels `opened` sees, and may put others in their place. */
const watched = (inner: Transport, opened: (channel: Channel) => Channel): Transport => ({
  ...inner,
  open: async (...road) => opened(await inner.open(...road)),
});

for (const transport of transports) {
  if (transport.ends === undefined) continue;
  const name = `link over ${transport.name}`, leaves = transport.name === "memory" ? clean : lenient;

  Deno.test(
    `${name}: a connection that is lost is replaced, and every frame comes once and in order`,
    leaves,
    async () => {
      const channels: Channel[] = [], count = 150;
      const [ta, tb] = transport.ends!();
      const seen = watched(ta, (channel) => {
        channels.push(channel);
        return channel;
      });
      const [a, b] = await linked([seen, tb], { clock: denoRuntime(), lanes: sizes(50_000) });
      const arrivals = [expectFrames(a, count), expectFrames(b, count)];
      for (let i = 0; i < count; i++) {
        for (const link of [a, b]) link.send("pipeline", header(i), [pattern(i, 20_000)]);
        if (i === count / 3) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          channels[0].close("the network path to the peer is lost");
        }
      }
      await Promise.all(arrivals);
      assertEquals(channels.length, 2);
      assertEquals([a.counters.lost, a.counters.paths], [1, 1]);
      a.close();
      assertEquals((await b.closed).orderly, true);
      assertEquals((await a.closed).orderly, true);
    },
  );

  Deno.test(
    `${name}: half-open, so that one end hears nothing and is told nothing: suspected, then dead`,
    lenient, // the follower goes on listening for a while
    async () => {
      const real = denoRuntime();
      let swallow = () => {}, down = false;
      const [ta, tb] = transport.ends!();
      const noMore: Transport = {
        ...ta,
        open: (...road) => down ? Promise.reject(new LinkError("no network")) : ta.open(...road),
      };
      // Five times as fast as real time, so that five seconds are one; handshakes take their own time.
      const fast: Clock = {
        ...real,
        now: () => real.now() * 5,
        timer: (ms, fire) => real.timer(ms / 5, fire),
      };
      const holed = watched(noMore, (channel) => {
        const hole = blackHole(channel);
        swallow = hole.swallow;
        return hole.channel;
      });
      const [a, b] = await linked([holed, tb], { clock: fast, lanes: sizes(1_000) });
      const suspected: boolean[] = [];
      for (const link of [a, b]) link.onsuspected = (now) => suspected.push(now);
      down = true;
      swallow();
      for (const { orderly, reason } of await Promise.all([a.closed, b.closed])) {
        assertEquals(orderly, false);
        assertStringIncludes(reason, "silent for 5");
      }
      assertEquals(suspected, [true, true]);
    },
  );
}
