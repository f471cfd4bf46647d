/** What a link promises, on every transport. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { FrameError, LinkError } from "../../mesh/errors.ts";
import { type Lane, type Link, type LinkOptions } from "../../mesh/link/link.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import { clean, lenient } from "./clean.ts";
import { expectFrames, header, pattern, same, sizes } from "./frames.ts";
import { credentials, GENERATION } from "./linked.ts";
import { type Pair, type TransportCase, transports } from "./transports.ts";

const MIB = 1 << 20;

type Sizes = LinkOptions["lanes"];

function options(pair: Pair, self: "a" | "b", lanes: Sizes, more: Partial<LinkOptions> = {}): LinkOptions {
  return {
    clock: pair.clock,
    self,
    peer: self === "a" ? "b" : "a",
    run: "run",
    generation: GENERATION,
    credentials: credentials[self],
    lanes,
    ...more,
  };
}

async function open(pair: Pair, lanes: Sizes): Promise<[Link, Link]> {
  return await pair.run(Promise.all([
    openLink(pair.a, options(pair, "a", lanes)),
    openLink(pair.b, options(pair, "b", lanes)),
  ]));
}

/** Closes both ends and waits until nothing of them is left. */
async function finish(pair: Pair, a: Link): Promise<void> {
  a.close();
  await pair.run(Promise.all([a.closed, pair.a.closed, pair.b.closed]));
}

for (const transport of transports) {
  const test = (name: string, run: (pair: Pair, transport: TransportCase) => Promise<void>) =>
    Deno.test(
      `link over ${transport.name}: ${name}`,
      transport.name.startsWith("memory") ? clean : lenient,
      async () => run(await transport.pair(), transport),
    );

  test("frames of 0 bytes to the largest, on all lanes and both ways at once", async (pair, { largest }) => {
    const [a, b] = await open(pair, sizes(largest, MIB, MIB));
    const plan: [Lane, number[]][] = [
      ["pipeline", [0, 1, largest, 3, 16_350, 16_351, 16_352, 32 << 10, 2 * MIB + 1]],
      ["request", [0, 0, 1, 2, 3, 4, 5, 100_000, MIB]],
      ["reply", [16_384, 65_536, 1, 0, 999_999]],
    ];
    const count = plan.reduce((sum, [, lengths]) => sum + lengths.length, 0);
    const arrivals = [expectFrames(a, count), expectFrames(b, count)];
    const sends = [a, b].flatMap((link) =>
      plan.flatMap(([lane, lengths]) =>
        lengths.map((length, i) => {
          const payload = pattern(i, length), cut = length >> 1;
          return link.send(lane, header(i), [payload.subarray(0, cut), payload.subarray(cut)]);
        })
      )
    );
    await pair.run(Promise.all([...arrivals, ...sends]));
    assertEquals(a.counters.framesSent, count);
    assertEquals(b.counters.framesReceived, count);
    assertEquals(a.counters.bytesSent, b.counters.bytesReceived);
    await finish(pair, a);
    assertEquals((await b.closed).orderly, true);
  });

  test("a frame of 64 MiB", async (pair) => {
    const [a, b] = await open(pair, sizes(64 * MIB));
    const arrived = expectFrames(b, 1);
    await pair.run(Promise.all([arrived, a.send("pipeline", header(0), [pattern(0, 64 * MIB)])]));
    await finish(pair, a);
  });

  test("10,000 small frames in order", async (pair, { small }) => {
    const [a, b] = await open(pair, sizes(4_096));
    const arrived = expectFrames(b, small);
    const sends = Array.from(
      { length: small },
      (_, i) => a.send("pipeline", header(i), [pattern(i, i % 100)]),
    );
    await pair.run(Promise.all([arrived, ...sends]));
    await finish(pair, b);
  });

  test("a reader that does not read holds what was granted, and no other lane", async (pair) => {
    const frame = 200_000,
      lanes = { pipeline: { frameBytes: frame, frames: 3 }, request: frame, reply: frame };
    const [a, b] = await open(pair, lanes);
    const held: (() => void)[] = [];
    let replies = 0;
    let repliesDone!: () => void, allDone!: () => void;
    const repliesArrived = new Promise<void>((resolve) => repliesDone = resolve);
    const all = new Promise<void>((resolve) => allDone = resolve);
    let reading = false, got = 0;
    b.onframe = (lane, head, payload, consumed) => {
      if (lane === "reply") {
        consumed();
        if (++replies === 20) repliesDone();
        return;
      }
      assertEquals(head.sequence, got++);
      assert(same(payload, pattern(head.sequence, frame)));
      if (reading) consumed();
      else held.push(consumed);
      if (got === 40) allDone();
    };
    const sends = Array.from({ length: 40 }, (_, i) => a.send("pipeline", header(i), [pattern(i, frame)]));
    for (let i = 0; i < 20; i++) a.send("reply", header(i), [pattern(i, frame)]);
    await pair.run(repliesArrived);
    assertEquals(got, 3); // as many as the lane's size says
    // Those, and what the reply lane may have had under way: 4 frames. Each frame counts 256 bytes beside its payload.
    assert(b.counters.mostHeld <= (3 + 4) * 200_256, `${b.counters.mostHeld} bytes held`);
    assert(a.counters.creditWaits > 0);
    reading = true;
    for (const consumed of held) consumed();
    await pair.run(Promise.all([all, ...sends]));
    await finish(pair, a);
  });

  test("a channel that dies rejects every pending and later send", async (pair) => {
    const [a, b] = await open(pair, sizes(MIB));
    const sends = [a, b].flatMap((link) =>
      Array.from({ length: 20 }, (_, i) => link.send("pipeline", header(i), [new Uint8Array(MIB)]))
    );
    pair.sever();
    const results = await pair.run(Promise.allSettled(sends));
    const lost = results.filter((result) => result.status === "rejected");
    assert(lost.length > 20, `${lost.length} of 40 sends were rejected`);
    for (const { reason } of lost) assertEquals(reason.name, "LinkError");
    for (const link of [a, b]) {
      assertEquals((await pair.run(link.closed)).orderly, false);
      await assertRejects(() => link.send("reply", header(0), []), LinkError, "is over");
      assertEquals((await link.close()).orderly, false);
    }
  });

  test("closing loses nothing that was sent, from one end or both", async (pair) => {
    const [a, b] = await open(pair, sizes(MIB));
    const got = [0, 0];
    [a, b].forEach((link, i) =>
      link.onframe = (_lane, head, payload, consumed) => {
        assert(same(payload, pattern(head.sequence, MIB >> 1)));
        got[i]++;
        consumed();
      }
    );
    for (const link of [a, b]) {
      for (let i = 0; i < 12; i++) link.send("pipeline", header(i), [pattern(i, MIB >> 1)]);
    }
    const done = a.close();
    await assertRejects(() => a.send("pipeline", header(12), []), LinkError, "closing");
    if (transport.name !== "memory") b.close(); // in memory the other end follows by itself
    const ends = await pair.run(Promise.all([done, b.closed, pair.a.closed, pair.b.closed]));
    assertEquals([ends[0].orderly, ends[1].orderly], [true, true]);
    assertEquals(got, [12, 12]);
  });

  test("ends that do not belong together say so", async (pair) => {
    const results = await pair.run(Promise.allSettled([
      openLink(pair.a, options(pair, "a", sizes(1_000))),
      openLink(pair.b, options(pair, "b", sizes(1_000), { generation: 8 })),
    ]));
    for (const result of results) {
      assert(result.status === "rejected");
      assert(result.reason instanceof LinkError);
      assertStringIncludes(result.reason.message, "generation");
    }
    await pair.run(Promise.all([pair.a.closed, pair.b.closed]));
  });

  test("frames of another generation are dropped and counted, too large ones refused", async (pair) => {
    const [a, b] = await open(pair, sizes(300_000, 10, 10));
    const arrived = expectFrames(b, 2);
    await assertRejects(() => a.send("request", header(0), [new Uint8Array(11)]), FrameError, "11 bytes");
    for (let i = 0; i < 20; i++) a.send("pipeline", header(i, 6), [new Uint8Array(300_000)]);
    for (let i = 0; i < 2; i++) a.send("pipeline", header(i), [pattern(i, 10)]);
    await pair.run(arrived);
    assertEquals(b.counters.dropped, 20);
    await finish(pair, a);
  });
}

// Last, and so not by imports at the top: what they leave for a second would count as leaks of tests that must be clean.
await import("./lost_channels.ts");
await import("./native.ts");
