/** Links against peers that lie, fall silent or differ, in memory on a virtual clock. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { LinkError } from "../../mesh/errors.ts";
import { encodeFrame } from "../../mesh/tensors/frame.ts";
import { greet } from "../../mesh/link/greeting.ts";
import { type Link, type LinkOptions } from "../../mesh/link/link.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import { decodeAbort, encodeCredit, encodeNumber, KIND } from "../../mesh/link/link_wire.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { PROTOCOL_VERSION } from "../../mesh/control/messages.ts";
import type { Channel } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { clean } from "../compliance/clean.ts";
import { credentials, header } from "../compliance/linked.ts";

const first = header();

function options(clock: VirtualClock, more: Partial<LinkOptions> = {}): LinkOptions {
  const lanes = { pipeline: { frameBytes: 300_000, frames: 2 }, request: 1_000, reply: 1_000 };
  const { self = "a" } = more;
  return {
    clock,
    self,
    peer: "b",
    run: "run",
    generation: 7,
    lanes,
    credentials: credentials[self as "a" | "b"],
    ...more,
  };
}

/** A link whose other end is played by hand. */
async function byHand(): Promise<{ clock: VirtualClock; link: Link; peer: Channel; heard: Uint8Array[] }> {
  const clock = new VirtualClock(), [mine, peer] = memoryChannelPair({ clock, latencyMs: 1 });
  const heard: Uint8Array[] = [];
  const opening = openLink(mine, options(clock));
  await clock.until(greet(peer, options(clock, { self: "b", peer: "a" })));
  peer.onmessage = (message) => {
    heard.push(message);
    if (message[0] === KIND.abort) peer.close("read");
  };
  for (let lane = 0; lane < 3; lane++) peer.send(numbered(lane, encodeCredit(lane, 1 << 20)));
  peer.send(numbered(3, Uint8Array.of(KIND.ready)));
  return { clock, link: await clock.until(opening), peer, heard };
}

/** The number of the first message that a test sends. */
const FIRST = 4;

/** A message of the link as it travels over a channel. */
function numbered(number: number, message: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(5 + message.length);
  bytes[0] = KIND.numbered;
  new DataView(bytes.buffer).setUint32(1, number, true);
  bytes.set(message, 5);
  return bytes;
}

function data(lane: number, ...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array([KIND.data, lane, ...parts.flatMap((part) => [...part])]);
}

/** What a peer says in the link's own messages. */
const lies: [string, string, Uint8Array<ArrayBuffer>[]][] = [
  ["larger than the plan's frames", "plan's largest", [data(0, encodeFrame(first, 300_001))]],
  ["without credit", "without credit", [
    ...[0, 1].flatMap(() => [data(0, encodeFrame(first, 300_000)), data(0, new Uint8Array(300_000))]),
    data(0, encodeFrame(first, 300_000)),
  ]],
  ["an empty piece", "without bytes", [data(0)]],
  ["half a header", "needs a header", [data(0, encodeFrame(first, 10).slice(0, 20))]],
  ["bytes behind a frame that are no frame", "VLRF", [data(0, encodeFrame(first, 40), new Uint8Array(80))]],
  ["an unknown lane", "unknown lane", [data(3, encodeFrame(first, 0))]],
  ["an unknown kind", "unknown kind", [Uint8Array.of(99)]],

  ["credit that is no number", "credit", [encodeCredit(0, NaN)]],
  ["negative credit", "credit", [encodeCredit(0, -5)]],
  ["credit on an unknown lane", "unknown lane", [encodeCredit(9, 5)]],
  ["a ping as one", "unknown kind", [encodeNumber(KIND.ping, 1)]],
  ["a second hello", "unknown kind", [Uint8Array.of(KIND.hello, PROTOCOL_VERSION, 0)]],
  ["bye in the middle of a frame", "middle", [data(0, encodeFrame(first, 10)), Uint8Array.of(KIND.bye)]],
  ["frames behind its bye", "behind", [Uint8Array.of(KIND.bye), data(0, encodeFrame(first, 0))]],
  ["an answer to no bye", "not said", [Uint8Array.of(KIND.byeAck)]],
];

/** What it says on the channel itself. */
const rawLies: typeof lies = [
  ["a message without a number", "unknown kind", [data(0, encodeFrame(first, 0))]],
  ["an empty message", "unknown kind", [new Uint8Array(0)]],
  ["a number without a message", "without content", [numbered(FIRST, new Uint8Array(0))]],
  ["a ping cut short", "wrong size", [encodeNumber(KIND.ping, 1).slice(0, 3)]],
  ["that more has arrived than was sent", "than was sent", [encodeNumber(KIND.arrived, 99)]],
  ["far ahead of a message that is missing", "too far ahead", [
    ...Array.from({ length: 600 }, (_, i) => numbered(FIRST + 1 + i, new Uint8Array(30_000))),
  ]],
];
for (const lie of lies) {
  rawLies.push([
    lie[0],
    lie[1],
    lie[2].map((message, i) => numbered(FIRST + i, message)),
  ]);
}

for (const [name, reason, messages] of rawLies) {
  Deno.test(`a peer that sends ${name} loses its link, and hears why`, clean, async () => {
    const { clock, link, peer, heard } = await byHand();
    link.onframe = () => {};
    for (const message of messages) peer.send(message);
    const end = await clock.until(link.closed);
    assertEquals(end.orderly, false);
    assertStringIncludes(end.reason, reason);
    assertStringIncludes(decodeAbort(heard.at(-1)!), reason);
  });
}

Deno.test(
  "10,000 damaged messages never throw, hang or pass for a frame that was not sent",
  clean,
  async () => {
    const chance = new VirtualClock(31);
    let refused = 0;
    for (let i = 0; i < 1_000; i++) {
      const { clock, link, peer } = await byHand();
      link.onframe = (_lane, _header, payload, consumed) => {
        assert(payload.length <= 300_000);
        consumed();
      };
      for (let n = 0; n < 10; n++) {
        const message = data(0, encodeFrame(first, 100), new Uint8Array(100));
        message[Math.floor(chance.uniform() * 36)] = Math.floor(chance.uniform() * 256);
        try {
          peer.send(numbered(FIRST + n, message));
        } catch {
          break; // the link has closed
        }
        await clock.pass(3);
      }
      const gone = await Promise.race([link.closed, clock.pass(0)]);
      if (gone) refused++;
      link.abort("done");
      await clock.until(link.closed);
    }
    assert(refused > 900, `${refused} of 1000 links noticed`);
  },
);

Deno.test("ends with different plans do not open", clean, async () => {
  const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock, latencyMs: 1 });
  const lanes = { pipeline: 4_000_000, request: 0, reply: 0 };
  const results = await clock.until(Promise.allSettled([
    openLink(x, options(clock, { lanes })),
    openLink(y, options(clock, { self: "b", peer: "a" })),
  ]));
  assert(results[0].status === "rejected");
  assertStringIncludes(results[0].reason.message, "different plans");
  await clock.idle(10_000);
});

Deno.test("nobody at the other end: the link gives up after 5 s", clean, async () => {
  const clock = new VirtualClock(), [mine] = memoryChannelPair({ clock, latencyMs: 1 });
  await assertRejects(() => clock.until(openLink(mine, options(clock))), LinkError, "did not answer");
  assertEquals(clock.now(), 5_000);
});

Deno.test("silence: suspected after 1 s, healed by a word, dead after 5 s", clean, async () => {
  const { clock, link, peer } = await byHand();
  const events: [number, boolean][] = [];
  const start = clock.now();
  link.onsuspected = (suspected) => events.push([clock.now() - start, suspected]);
  const pending = link.send("pipeline", first, [new Uint8Array(300_000)]);
  await clock.until(pending);
  await clock.pass(3_000);
  peer.send(encodeNumber(KIND.pong, 0));
  const end = await clock.until(link.closed);
  assertEquals(events.map(([, suspected]) => suspected), [true, false, true]);
  assert(events[0][0] >= 1_000 && events[0][0] <= 1_500, `suspected after ${events[0][0]} ms`);
  assertStringIncludes(end.reason, "silent");
  const dead = clock.now() - start - events[1][0];
  assert(dead >= 5_000 && dead <= 5_500, `dead ${dead} ms after the last word`);
  await assertRejects(() => link.send("pipeline", first, []), LinkError, "silent");
});

Deno.test("time in which this program could not run is not the peer's silence", clean, async () => {
  const real = new VirtualClock(), skip = { ms: 0 };
  const clock = { now: () => real.now() + skip.ms, wall: () => real.wall(), timer: real.timer.bind(real) };
  const [x, y] = memoryChannelPair({ clock: real, latencyMs: 1 });
  const [a, b] = await real.until(Promise.all([
    openLink(x, { ...options(real), clock }),
    openLink(y, { ...options(real, { self: "b", peer: "a" }), clock }),
  ]));
  let suspected = 0;
  a.onsuspected = b.onsuspected = () => suspected++;
  for (let i = 0; i < 20; i++) {
    await real.pass(100);
    skip.ms += 10_000;
  }
  assertEquals(suspected, 0);
  a.close();
  assertEquals((await real.until(b.closed)).orderly, true);
});

Deno.test("round trips are measured and every credit comes back", clean, async () => {
  const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock, latencyMs: 40 });
  const [a, b] = await clock.until(Promise.all([
    openLink(x, options(clock)),
    openLink(y, options(clock, { self: "b", peer: "a" })),
  ]));
  b.onframe = (_lane, _header, _payload, consumed) => {
    consumed();
    consumed(); // a second call must not grant twice
  };
  for (let i = 0; i < 50; i++) await clock.until(a.send("pipeline", first, [new Uint8Array(i * 6_000)]));
  await clock.pass(1_000);
  assertEquals(a.counters.roundTrip, 80);
  assertEquals(b.counters.framesReceived, 50);
  assert(a.counters.creditWaits > 0);
  assert(b.counters.mostHeld <= 2 * 300_256, `${b.counters.mostHeld} held`);
  // After a quiet moment both full frames of the plan must go without waiting for anyone.
  b.onframe = () => {};
  const waits = a.counters.creditWaits;
  for (let i = 0; i < 2; i++) await clock.until(a.send("pipeline", first, [new Uint8Array(300_000)]));
  assertEquals(a.counters.creditWaits, waits);
  b.close();
  assertEquals((await clock.until(a.closed)).orderly, true);
  await clock.idle(10_000);
});

Deno.test(
  "what comes in the middle of frames tells what the road carries, whatever lies between frames",
  clean,
  async () => {
    const clock = new VirtualClock();
    const [x, y] = memoryChannelPair({ clock, latencyMs: 40, bytesPerSecond: 2e6 });
    const [a, b] = await clock.until(Promise.all([
      openLink(x, options(clock)),
      openLink(y, options(clock, { self: "b", peer: "a" })),
    ]));
    b.onframe = (_lane, _header, _payload, consumed) => consumed();
    await clock.until(a.send("pipeline", first, [new Uint8Array(1_000)]));
    await clock.pass(1_000);
    assertEquals(b.counters.streamedBytes, 0, "one piece alone tells nothing");
    for (let i = 0; i < 10; i++) {
      await clock.until(a.send("pipeline", first, [new Uint8Array(100_000)]));
      await clock.pass(1_000); // a pause between frames is no slow road
    }
    const { streamedBytes, streamingMs } = b.counters;
    assert(streamedBytes > 500_000, `${streamedBytes}`);
    assert(Math.abs(streamedBytes / streamingMs / 2e3 - 1) < 0.05, `${streamedBytes} in ${streamingMs} ms`);
    assertEquals(a.counters.streamedBytes, 0);
    b.close();
    assertEquals((await clock.until(a.closed)).orderly, true);
  },
);

Deno.test(
  "frames that come before their handler are kept; the payload may be transferred",
  clean,
  async () => {
    const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock, latencyMs: 1 });
    const [a, b] = await clock.until(Promise.all([
      openLink(x, options(clock)),
      openLink(y, options(clock, { self: "b", peer: "a" })),
    ]));
    for (let i = 0; i < 3; i++) {
      await clock.until(a.send("reply", header(i), [Uint8Array.of(i)]));
    }
    a.close();
    const got: number[] = [];
    await clock.pass(10);
    b.onframe = (lane, { sequence }, payload, consumed) => {
      assertEquals(lane, "reply");
      structuredClone(payload.buffer, { transfer: [payload.buffer] });
      got.push(sequence);
      consumed();
    };
    assertEquals((await clock.until(b.closed)).orderly, true);
    assertEquals(got, [0, 1, 2]);
  },
);
