/** What all links of a worker send together, on a virtual clock. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { SendBudget } from "../../mesh/link/budget.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import { header } from "../compliance/linked.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

Deno.test("a budget lets its rate through, however messages are cut, and a silence earns no more than a moment", async () => {
  const clock = new VirtualClock(), budget = new SendBudget(clock, 1e6);
  const send = async (count: number, bytes: number) => {
    for (let i = 0; i < count; i++) {
      const wait = budget.wait();
      if (wait > 0) await clock.pass(wait);
      assertEquals(budget.wait(), 0);
      budget.take(bytes);
    }
  };
  await send(200, 10_000);
  assertAlmostEquals(clock.now(), 2_000, 300);
  await clock.pass(60_000);
  const before = clock.now();
  await send(50, 40_000);
  assertAlmostEquals(clock.now() - before, 2_000, 60);
});

Deno.test("two links of one worker share its rate, and signs of life wait for nothing", async () => {
  const clock = new VirtualClock(), budget = new SendBudget(clock, 1e6);
  const lanes = { pipeline: { frameBytes: 1_000_000, frames: 2 }, request: 1_000, reply: 1_000 };
  const ends = await Promise.all(["b", "c"].map(async (peer) => {
    const credentials = await localCredentials(denoRuntime(), "run", ["a", peer]);
    const [mine, theirs] = memoryChannelPair({ clock, latencyMs: 1 });
    const one = { clock, run: "run", generation: 7, lanes };
    const links = await clock.until(Promise.all([
      openLink(mine, { ...one, self: "a", peer, credentials: credentials.a, budget }),
      openLink(theirs, { ...one, self: peer, peer: "a", credentials: credentials[peer] }),
    ]));
    let suspected = 0;
    for (const link of links) link.onsuspected = () => suspected++;
    const arrived = new Promise<number>((resolve) => {
      links[1].onframe = (_lane, _header, payload, consumed) => {
        consumed();
        assertEquals(payload.length, 1_000_000);
        resolve(clock.now());
      };
    });
    return { links, arrived, suspected: () => suspected };
  }));
  const began = clock.now();
  for (const { links } of ends) links[0].send("pipeline", header(), [new Uint8Array(1_000_000)]);
  const times = await clock.until(Promise.all(ends.map(({ arrived }) => arrived)));
  assertAlmostEquals(Math.max(...times) - began, 2_000, 100);
  for (const { suspected } of ends) assertEquals(suspected(), 0);
  const closed = await clock.until(Promise.all(ends.map(({ links }) => links[0].close())));
  assert(closed.every(({ orderly }) => orderly));
});
