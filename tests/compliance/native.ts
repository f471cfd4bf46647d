/**
 * What is tried with the native transport beside its links. Its library may be loaded by one thread of a process only, and
 * every test file is one: so these stand here and run with links_test.ts.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { floodLink } from "../../bench/hostile_datagrams.ts";
import { nativeTransport } from "../../mesh/native_transport.ts";
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
