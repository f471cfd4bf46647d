/** Links that outlive their channels: faults of single channels and of the whole road, on a virtual clock. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Bundle } from "../../mesh/link/bundle.ts";
import { LinkError } from "../../mesh/errors.ts";
import { limits } from "../../mesh/limits.ts";
import { encodeNumber, KIND } from "../../mesh/link/link_wire.ts";
import type { MemoryChannel } from "../../mesh/transports/memory_transport.ts";
import type { Channel, Clock, Transport } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { clean } from "../compliance/clean.ts";
import { close, exchange, road } from "./road.ts";

Deno.test("a channel that dies is replaced; nothing is lost or doubled", clean, async () => {
  const link = await road(), { clock, hub, a, b } = link, all = exchange(link, 200);
  for (const ms of [150, 300, 10, 700]) {
    await clock.pass(ms);
    hub.channels.at(-1)!.sever();
    await clock.pass(50);
  }
  await clock.until(all);
  assertEquals([a.counters.lost, b.counters.lost], [4, 4]);
  assert(a.counters.resent + b.counters.resent > 0);
  assertEquals(hub.channels.length, 5);
  await close(link);
});

Deno.test(
  "a channel that stands still in one direction is replaced after 2 s, before the peer is dead",
  clean,
  async () => {
    for (const direction of ["to", "from"] as const) {
      const link = await road(), { clock, hub, a } = link, all = exchange(link, 100);
      await clock.pass(120);
      const first = hub.channels[0];
      (direction === "to" ? first : first.other).cut(); // for good: an association that has lost its count
      const from = clock.now();
      await clock.until(all);
      const took = clock.now() - from;
      assert(took > limits.stalledMs && took < limits.deadMs, `${took} ms`);
      assertEquals(hub.channels.length, 2);
      assertEquals(a.counters.paths, 1);
      await close(link);
    }
  },
);

Deno.test(
  "a cut of 3 s heals inside the link: suspected within 1.5 s, nothing lost or doubled",
  clean,
  async () => {
    const link = await road(), { clock, a, b } = link, all = exchange(link, 100), began = clock.now() + 130;
    const said: [who: string, suspected: boolean, at: number][] = [];
    for (const [who, end] of [["a", a], ["b", b]] as const) {
      end.onsuspected = (suspected) => said.push([who, suspected, clock.now() - began]);
    }
    await clock.pass(130);
    link.cut();
    await clock.pass(3_000);
    link.mend();
    await clock.until(all);
    for (const who of ["a", "b"]) {
      const own = said.filter(([name]) => name === who);
      assertEquals(own.map(([, suspected]) => suspected), [true, false]);
      assert(own[0][2] <= 1_500, `suspected after ${own[0][2]} ms`);
    }
    await close(link);
  },
);

Deno.test("a cut of 30 s ends the link at both ends after 5 s", clean, async () => {
  let down = false;
  const network = (inner: Transport, clock: Clock): Transport => ({
    ...inner,
    open(signal, initiator) {
      if (!down) return inner.open(signal, initiator);
      return new Promise((_, reject) =>
        clock.timer(limits.connectMs, () => reject(new LinkError("no network")))
      );
    },
  });
  const link = await road({}, 1, network), { clock, a, b } = link;
  exchange(link, 100).catch(() => {});
  await clock.pass(130);
  const cut = clock.now();
  down = true;
  link.cut();
  for (const end of [a, b]) {
    const { orderly, reason } = await clock.until(end.closed);
    assertEquals(orderly, false);
    assertStringIncludes(reason, "silent");
    assert(clock.now() - cut <= 5_500, `${clock.now() - cut} ms`);
  }
  await clock.idle(30_000);
});

Deno.test("a connect that gets stuck is abandoned after 5 s for a new one", clean, async () => {
  let tried = 0;
  const stuck = (inner: Transport): Transport => ({
    ...inner,
    async open(signal, initiator) {
      const channel = await inner.open(signal, initiator) as MemoryChannel;
      // Both ends of the first connection believe that it is open, and nothing ever arrives.
      if (tried++ < 2) channel.cut();
      return channel;
    },
  });
  const link = await road({}, 1, stuck), { clock } = link;
  assert(clock.now() > 5_000 && clock.now() < 7_000, `${clock.now()} ms`);
  await clock.until(exchange(link, 20));
  await close(link);
});

Deno.test("a long road gets more channels, and uses them", clean, async () => {
  const one = await road({ latencyMs: 20, bytesPerSecond: 2e6 });
  const began = one.clock.now();
  await one.clock.until(exchange(one, 100));
  const alone = one.clock.now() - began;
  await close(one);
  const four = await road({ latencyMs: 20, bytesPerSecond: 2e6, paths: (roundTrip) => roundTrip / 10 });
  await four.clock.pass(2_000);
  assertEquals(four.a.counters.paths, 4);
  const start = four.clock.now();
  await four.clock.until(exchange(four, 100));
  const together = four.clock.now() - start;
  assert(together < alone / 3, `${together} ms with four, ${alone} with one`);
  await close(four);
});

Deno.test("a bundle goes on as soon as any of its channels has room", clean, async () => {
  const clock = new VirtualClock(1), bundle = new Bundle({ clock, peer: "b" });
  const nothing = () => {};
  bundle.listen({ opened: nothing, message: nothing, suspected: nothing, alone: nothing, failed: nothing });
  const channels = [200, 300].map((bytes) => new Filled(bytes));
  for (const channel of channels) {
    bundle.add(channel);
    channel.onmessage!(encodeNumber(KIND.ping, 0)); // the other end listens
  }
  assertEquals(bundle.buffered(), 200);
  const drained = bundle.drained(100);
  channels[1].empty(); // not the one with the most room when the wait began
  await drained;
  assertEquals(bundle.buffered(), 0);
  bundle.close("done");
  await bundle.closed;
});

/** A channel that holds what it is told, until it is emptied. */
class Filled implements Channel {
  readonly kind = "test";
  readonly maxMessage = limits.channelBytes;
  readonly binding = { proven: false };
  readonly closed: Promise<string>;
  onmessage: Channel["onmessage"];
  #close!: (reason: string) => void;
  #emptied = Promise.withResolvers<void>();

  constructor(private bytes: number) {
    this.closed = new Promise((resolve) => this.#close = resolve);
  }

  send(): void {}

  buffered(): number {
    return this.bytes;
  }

  drained(): Promise<void> {
    return this.#emptied.promise;
  }

  empty(): void {
    this.bytes = 0;
    this.#emptied.resolve();
  }

  close(reason = "closed"): void {
    this.#emptied.resolve();
    this.#close(reason);
  }
}

Deno.test(
  "one of several channels that is late holds up the others for little more than a second",
  clean,
  async () => {
    const link = await road({ paths: () => 2 }), { clock, hub, a, b } = link;
    await clock.pass(1_500);
    assertEquals([a.counters.paths, b.counters.paths], [2, 2]);
    const all = exchange(link, 12);
    await clock.pass(8);
    // For less than what counts as standing still, which would have it replaced.
    hub.channels[0].cut();
    clock.timer(1_900, () => hub.channels[0].mend());
    const from = clock.now();
    await clock.until(all);
    assert(clock.now() - from < 1_700, `${clock.now() - from} ms`);
    assert(a.counters.resent > 0);
    await clock.pass(3_000);
    assert(b.counters.duplicates > 0, "they came twice and counted once");
    assertEquals([a.counters.lost, hub.channels.length], [0, 2]);
    await close(link);
  },
);

Deno.test("channels of a striped link die, stand still and lose messages: 60 seeds", clean, async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const chance = new VirtualClock(seed + 1_000);
    const link = await road({
      latencyMs: 1 + chance.uniform() * 40,
      bytesPerSecond: 1e6 + chance.uniform() * 2e7,
      loss: chance.uniform() * 0.02,
      chance: () => chance.uniform(),
      paths: () => 1 + seed % 4,
    }, seed);
    const { clock, hub } = link, all = exchange(link, 40);
    let over = false;
    all.finally(() => over = true).catch(() => {});
    for (let fault = 0; fault < 6 && !over; fault++) {
      await clock.pass(chance.uniform() * 400);
      const open = hub.channels.slice(-4), channel = open[Math.floor(chance.uniform() * open.length)];
      const end = chance.uniform() < 0.5 ? channel : channel.other;
      if (chance.uniform() < 0.5) end.sever();
      else if (open.length > 1) {
        end.cut();
        if (chance.uniform() < 0.5) clock.timer(chance.uniform() * 1_500, () => end.mend());
      }
      // A fault at a time leaves the time that a replacement takes.
      await clock.pass(2_600);
    }
    await clock.until(all);
    await close(link);
  }
});

Deno.test("numbers go on beyond 2^32", clean, async () => {
  const link = await road(), { clock, hub, a, b } = link;
  const counts = [a, b].map((end) => {
    const { bundle: { leaving: { kept }, arriving } } = end as unknown as {
      bundle: { leaving: { kept: { next: number } }; arriving: { expected: number } };
    };
    assert(
      kept.next > 0 && kept.next === arriving.expected,
      "these are the numbers, and nothing is under way",
    );
    kept.next = arriving.expected = 0xffff_ffff - 50;
    return kept;
  });
  const all = exchange(link, 200);
  await clock.pass(300);
  hub.channels[0].sever();
  await clock.until(all);
  assert(a.counters.resent > 0);
  for (const { next } of counts) assert(next > 0 && next < 1_000, `the next number is ${next}`);
  await close(link);
});
