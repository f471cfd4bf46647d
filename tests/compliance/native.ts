/**
 * What is tried with the native transport beside its links. Its library may be loaded by one thread of a process only, and
 * every test file is one: so these stand here and run with links_test.ts.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { floodLink } from "../../bench/security/hostile_datagrams.ts";
import { localChannels, localHeader, localLinks } from "../../mesh/transports/local_links.ts";
import { nativeTransport } from "../../mesh/transports/native_transport.ts";
import { PeerDescription } from "../../mesh/transports/peer_description.ts";
import type { Signal } from "../../mesh/runtime.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { clock, testsInTheMiddle, transport as werift } from "../mesh/in_the_middle.ts";
import { testsOfStun } from "../mesh/stun_server.ts";
import { lenient } from "./clean.ts";

const native = nativeTransport({ clock, loopback: true });

testsInTheMiddle("werift and native", werift, native, native);
testsInTheMiddle("native and werift", native, werift, native);
testsOfStun("native", (servers) => nativeTransport({ clock, servers: () => servers }));

for (const [name, one] of [["native", native], ["werift", werift]] as const) {
  Deno.test(
    `datagrams from strangers do not disturb an open connection from ${name} to native`,
    lenient,
    async () => {
      const { sent, arrived, orderly } = await floodLink([one, native], clock, 5_000, 77);
      assertEquals([arrived, orderly], [sent, true]);
    },
  );
}

Deno.test(
  "what was read of a native channel is freed at once, not when it is collected",
  lenient,
  async () => {
    const [a, b] = signalPair();
    const reading = native.open(b, false).then((channel) => {
      const { promise, resolve } = Promise.withResolvers<Uint8Array<ArrayBuffer>>();
      channel.onmessage = resolve;
      return { channel, message: promise };
    });
    const sender = await native.open(a, true), reader = await reading;
    sender.send(new Uint8Array(64 << 10).fill(7));
    const message = await reader.message;
    assertEquals(message.reduce((sum, byte) => sum + byte, 0), 7 * (64 << 10));
    reader.channel.spent?.(message);
    assertEquals(message.length, 0);
    sender.close();
    await Promise.all([sender.closed, reader.channel.closed]);
  },
);

/** Passes on what `signal` says, but of the addresses ::1 alone. */
function overIpv6(signal: Signal): Signal {
  const send = (body: unknown) => {
    const { candidates, ...rest } = PeerDescription.parse(body);
    signal.send({ ...rest, candidates: candidates.filter(({ address }) => address === "::1") });
  };
  return {
    send,
    get onbody() {
      return signal.onbody;
    },
    set onbody(handler) {
      signal.onbody = handler;
    },
  };
}

const ipv6 = { clock, loopback: "::1" };
for (
  const [name, one, other] of [
    ["werift", weriftTransport(ipv6), weriftTransport(ipv6)],
    ["native", nativeTransport(ipv6), nativeTransport(ipv6)],
    ["werift to native", weriftTransport(ipv6), nativeTransport(ipv6)],
  ] as const
) {
  Deno.test({
    name: `a link over IPv6 (::1) alone: ${name}`,
    ...lenient,
    ignore: !Deno.networkInterfaces().some(({ address }) => address === "::1"),
    async fn() {
      const channels = await localChannels([one, other], signalPair().map(overIpv6));
      const [a, b] = await localLinks(channels, clock, { pipeline: 1 << 20, request: 0, reply: 0 });
      const arrived: number[] = [];
      b.onframe = (_lane, _header, payload, consumed) => {
        arrived.push(payload.reduce((sum, byte) => sum + byte, 0));
        consumed();
      };
      for (let sequence = 1; sequence <= 3; sequence++) {
        await a.send("pipeline", localHeader(sequence), [new Uint8Array(1 << 20).fill(sequence)]);
      }
      assertEquals((await a.close()).orderly, true);
      assertEquals((await b.closed).orderly, true);
      assertEquals(arrived, [1, 2, 3].map((each) => each << 20));
    },
  });
}
