/** STUN servers that say what we want, and what transports make of it. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { type HostPort, type IceServers, stunText } from "../../mesh/transports/ice_servers.ts";
import { PeerDescription } from "../../mesh/transports/peer_description.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { lenient } from "../compliance/clean.ts";

const COOKIE = 0x2112a442;

/** A STUN server that says that everybody has this address; without a port, the one that it sees. */
export async function server(address: string, port?: number): Promise<{ socket: Socket; at: HostPort }> {
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

/** Tests that a transport asks a configured server, and none where only the relay may be used. */
export function testsOfStun(name: string, make: (servers: IceServers) => Transport): void {
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
