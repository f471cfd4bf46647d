/** How this machine looks from outside: servers of our own that say what we want. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { type HostPort, type IceServers, parseStun, stunText } from "../../mesh/ice_servers.ts";
import { nativeTransport } from "../../mesh/native_transport.ts";
import { PeerDescription } from "../../mesh/peer_description.ts";
import type { Clock, Transport } from "../../mesh/runtime.ts";
import { natOf, probeStun } from "../../mesh/stun_probe.ts";
import { weriftTransport } from "../../mesh/werift_transport.ts";
import { signalPair } from "../../mesh/signal_pair.ts";
import { lenient } from "../compliance/clean.ts";

const clock = denoRuntime(), COOKIE = 0x2112a442;

/** A STUN server that says that everybody has this address; without a port, the one that it sees. */
async function server(address: string, port?: number): Promise<{ socket: Socket; at: HostPort }> {
  const socket = createSocket("udp4");
  socket.on("message", (request: Buffer, from: { port: number; address: string }) => {
    const response = Buffer.alloc(32);
    response.writeUInt16BE(0x101, 0);
    response.writeUInt16BE(12, 2);
    request.copy(response, 4, 4, 20);
    response.writeUInt16BE(0x20, 20);
    response.writeUInt16BE(8, 22);
    response[25] = 1;
    response.writeUInt16BE((port ?? from.port) ^ (COOKIE >>> 16), 26);
    const cookie = Buffer.alloc(4);
    cookie.writeUInt32BE(COOKIE);
    address.split(".").forEach((part, i) => response[28 + i] = Number(part) ^ cookie[i]);
    socket.send(response, from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", () => resolve()));
  return { socket, at: { host: "127.0.0.1", port: socket.address().port } };
}

Deno.test("what servers see, and the kind of NAT that it tells", lenient, async () => {
  const servers = [
    await server("203.0.113.7"),
    await server("203.0.113.7"),
    await server("203.0.113.7", 4_000),
  ];
  const hasty: Clock = { ...clock, timer: (ms, fire) => clock.timer(ms / 20, fire) };
  const [one, other, third] = servers.map(({ at }) => at);
  const nobody = { host: "127.0.0.1", port: 9 };
  const seen = async (...asked: HostPort[]) => await probeStun(asked, hasty);
  const alike = await seen(one, other);
  assertEquals(alike[0]?.address, "203.0.113.7");
  assertEquals(alike[0], alike[1]);
  assertEquals(natOf(alike.map((each) => each!), []), "one address for all");
  assertEquals(natOf(alike.map((each) => each!), ["203.0.113.7"]), "none");
  assertEquals(natOf((await seen(one, third)).map((each) => each!), []), "another address for each");
  assertEquals(natOf((await seen(one)).map((each) => each!), []), "some");
  assertEquals(await seen(nobody), [undefined]);
  for (const { socket } of servers) socket.close();
});

const made: [string, (servers: IceServers) => Transport][] = [
  ["werift", (servers) => weriftTransport({ clock, servers })],
  ["native", (servers) => nativeTransport({ clock, servers })],
];
for (const [name, make] of made) {
  Deno.test(
    `${name} offers the address that a configured server sees, and asks none where only the relay may be used`,
    lenient,
    async () => {
      const { socket, at } = await server("203.0.113.7", 4_000), [signal, other] = signalPair();
      const opening = make({ stun: [at] }).open(signal, true).catch(() => {});
      const offer = PeerDescription.parse(await new Promise((resolve) => other.onbody = resolve));
      assert(
        offer.candidates.some(({ type, address }) => type === "srflx" && address === "203.0.113.7"),
        JSON.stringify(offer),
      );
      other.send({}); // no answer that could be read: the attempt ends
      await opening;
      socket.close();
      assertEquals(stunText({ stun: [at], relayOnly: true }), undefined);
    },
  );
}

Deno.test("addresses of STUN servers", () => {
  assertEquals(parseStun("stun.example, 192.0.2.1:19302"), [
    { host: "stun.example", port: 3_478 },
    { host: "192.0.2.1", port: 19_302 },
  ]);
  for (const text of ["", "a b", "x:0", "x:70000", "turn:x"]) {
    assertThrows(() => parseStun(text), LinkError, "STUN");
  }
});
