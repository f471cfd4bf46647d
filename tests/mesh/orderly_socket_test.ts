/** Datagrams in the order in which they were sent, whatever the socket makes of it. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { keepOrder, type Sending } from "../../mesh/transports/orderly_socket.ts";
import { clean } from "../compliance/clean.ts";

Deno.test("a socket is given one datagram at a time, in order, and tells when each has left", clean, () => {
  const given: number[] = [], told: number[] = [];
  let pending: (() => void)[] = [];
  const socket: Sending = {
    send([first], _port, _address, done) {
      given.push(first);
      pending.push(() => done?.(null, 1));
    },
  };
  keepOrder(socket);
  for (let i = 0; i < 5; i++) socket.send(Uint8Array.of(i), 9, "127.0.0.1", () => told.push(i));
  for (let i = 0; i < 5; i++) {
    assertEquals([given.length, told.length, pending.length], [i + 1, i, 1]);
    const [one] = pending;
    pending = [];
    one();
  }
  assertEquals([given, told], [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]);
});

Deno.test("a socket that is closed meanwhile ends nothing but what waits", clean, () => {
  let open = true, given = 0;
  const left: (() => void)[] = [];
  const socket: Sending = {
    send(_datagram, _port, _address, done) {
      if (!open) throw new Error("Not running");
      given++;
      left.push(() => done?.(null, 1));
    },
  };
  keepOrder(socket);
  for (let i = 0; i < 3; i++) socket.send(Uint8Array.of(i), 9, "127.0.0.1");
  open = false;
  left[0]();
  assertEquals(given, 1);
});

Deno.test("a burst from a new socket arrives in order", clean, async () => {
  const [from, to] = await Promise.all([bound(), bound()]), arrived: number[] = [];
  keepOrder(from);
  const all = new Promise<void>((resolve) => {
    to.on("message", (datagram: Buffer) => {
      if (arrived.push(datagram[0]) === 20) resolve();
    });
  });
  for (let i = 0; i < 20; i++) from.send(Buffer.of(i), to.address().port, "127.0.0.1");
  await all;
  assertEquals(arrived, Array.from({ length: 20 }, (_, i) => i));
  await Promise.all([from, to].map((socket) => new Promise<void>((closed) => socket.close(() => closed()))));
});

async function bound(): Promise<Socket> {
  const socket = createSocket("udp4");
  await new Promise<void>((ready) => socket.bind(0, "127.0.0.1", () => ready()));
  return socket;
}
