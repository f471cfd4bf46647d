/** Opening links: attempts, retries, bodies that come early, giving up. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { LinkError } from "../../mesh/errors.ts";
import { limits } from "../../mesh/limits.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { GenerationOverError } from "../../worker/errors.ts";
import { Linking } from "../../worker/linking.ts";
import { credentials, linkings } from "../compliance/linked.ts";

const lanes = { pipeline: 1024, request: 1024, reply: 1024 };

/** Both ends between "a" and "b". */
function pair(transports: (hub: MemoryHub) => [Transport, Transport], clock = new VirtualClock()) {
  return { ...linkings(transports(new MemoryHub(clock)), { clock, lanes, signalMs: 1 }), clock };
}

/** Fails the first `times` times, in the way of `how`. */
function unreliable(
  inner: Transport,
  times: number,
  clock: VirtualClock,
  how: "at once" | "after a while",
): Transport {
  let tried = 0;
  return {
    kind: inner.kind,
    open(signal, initiator) {
      if (tried++ >= times) return inner.open(signal, initiator);
      const error = new LinkError("no connection");
      if (how === "at once") return Promise.reject(error);
      return new Promise((_resolve, reject) => clock.timer(limits.connectMs, () => reject(error)));
    },
  };
}

async function linked({ a, b, clock }: ReturnType<typeof pair>): Promise<void> {
  const [left, right] = await clock.until(Promise.all([a.link, b.link]));
  assertEquals([left.peer, right.peer], ["b", "a"]);
  left.abort("done");
  await clock.until(right.closed);
}

Deno.test("both ends link at the first attempt", () =>
  linked(pair((hub) => [hub.transport(), hub.transport()])));

for (const how of ["at once", "after a while"] as const) {
  Deno.test(`a connection that fails ${how} at either end, or at both, is tried again`, async () => {
    for (const [first, second] of [[1, 0], [0, 1], [2, 1], [1, 2]]) {
      const clock = new VirtualClock();
      await linked(pair((hub) => [
        unreliable(hub.transport(), first, clock, how),
        unreliable(hub.transport(), second, clock, how),
      ], clock));
    }
  });
}

Deno.test("a peer that cannot be reached is named, with the reason", async () => {
  const clock = new VirtualClock();
  const { a, b } = pair((hub) => [
    unreliable(hub.transport(), 99, clock, "after a while"),
    unreliable(hub.transport(), 99, clock, "after a while"),
  ], clock);
  const error = await assertRejects(
    () => clock.until(a.link),
    LinkError,
    "Cannot connect to worker b over memory",
  );
  assertStringIncludes(error.message, "(tried 4 times): no connection");
  await assertRejects(() => clock.until(b.link), LinkError, "Cannot connect to worker a");
});

Deno.test("signals that nobody can read are refused; an ended generation gives up", async () => {
  const hub = new MemoryHub(new VirtualClock());
  const linking = new Linking({
    transport: hub.transport(),
    clock: new VirtualClock(),
    self: "b",
    peer: "a",
    run: "test",
    generation: 1,
    credentials: credentials.b,
    lanes,
    signal: () => {},
  });
  for (const body of [null, {}, { attempt: 0 }, { attempt: 2 ** 30 }, { attempt: 1, extra: 1 }, "offer"]) {
    try {
      linking.receive(body);
      throw new Error("it was accepted");
    } catch (error) {
      assertEquals((error as Error).message, "a sent a signal that cannot be read");
    }
  }
  linking.close(new GenerationOverError("over"));
  await assertRejects(() => linking.link, GenerationOverError);
});
