/** How this machine looks from outside: servers of our own that say what we want. */
import { assertEquals, assertThrows } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { type HostPort, parseStun } from "../../mesh/transports/ice_servers.ts";
import type { Clock } from "../../mesh/runtime.ts";
import { natOf, probeStun } from "../../mesh/transports/stun_probe.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { lenient } from "../compliance/clean.ts";
import { server, testsOfStun } from "./stun_server.ts";

const clock = denoRuntime();

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

testsOfStun("werift", (servers) => weriftTransport({ clock, servers: () => servers }));

Deno.test("addresses of STUN servers", () => {
  assertEquals(parseStun("stun.example, 192.0.2.1:19302"), [
    { host: "stun.example", port: 3_478 },
    { host: "192.0.2.1", port: 19_302 },
  ]);
  for (const text of ["", "a b", "x:0", "x:70000", "turn:x"]) {
    assertThrows(() => parseStun(text), LinkError, "STUN");
  }
});
