/** What a link promises, on every transport. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { FrameError, LinkError } from "../../mesh/errors.ts";
import type { FrameHeader } from "../../mesh/tensors/frame.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { type Lane, LANES, type Link, type LinkOptions, openLink } from "../../mesh/link/link.ts";
import type { Channel, Clock, Transport } from "../../mesh/runtime.ts";
import { Linking } from "../../worker/linking.ts";
import { clean, lenient } from "./clean.ts";
import { type Pair, type TransportCase, transports } from "./transports.ts";

const MIB = 1 << 20;

function header(sequence: number, generation = 7): FrameHeader {
  return { what: "activation", evaluate: false, generation, round: 3, index: 1, microbatch: 2, sequence };
}

/** Bytes that depend on `seed` at every place. */
function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array((length + 3) >> 2);
  let x = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer).slice(0, length);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

const credentials = await localCredentials(denoRuntime(), "run", ["a", "b"]);

type Sizes = LinkOptions["lanes"];
const sizes = (pipeline: number, request = pipeline, reply = pipeline): Sizes => ({
  pipeline,
  request,
  reply,
});

function options(pair: Pair, self: "a" | "b", lanes: Sizes, more: Partial<LinkOptions> = {}): LinkOptions {
  return {
    clock: pair.clock,
    self,
    peer: self === "a" ? "b" : "a",
    run: "run",
    generation: 7,
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

/** Resolves once `count` frames came, each the next of its lane with the pattern of its number; consumes them. */
function expectFrames(link: Link, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const next = new Map<Lane, number>(LANES.map((lane) => [lane, 0]));
    let got = 0;
    link.onframe = (lane, head, payload, consumed) => {
      const sequence = next.get(lane)!;
      next.set(lane, sequence + 1);
      const ok = head.sequence === sequence && head.what === "activation" && head.round === 3 &&
        payload.byteLength === payload.buffer.byteLength && same(payload, pattern(sequence, payload.length));
      if (!ok) {
        return reject(new Error(`frame ${head.sequence} of ${lane} is not what frame ${sequence} should be`));
      }
      consumed();
      if (++got === count) resolve();
      if (got > count) reject(new Error("more frames than were sent"));
    };
    link.closed.then(({ reason }) => reject(new Error(`closed after ${got} of ${count}: ${reason}`)));
  });
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

/** A channel of which nothing comes out any more once it is a black hole, and nobody is told. */
function blackHole(inner: Channel): { channel: Channel; swallow(): void } {
  let swallows = false;
  const channel = Object.create(inner, {
    send: { value: (message: Uint8Array<ArrayBuffer>) => void (swallows || inner.send(message)) },
    onmessage: {
      get: () => inner.onmessage,
      set: (handler: Channel["onmessage"]) =>
        inner.onmessage = handler && ((message) => void (swallows || handler(message))),
    },
    buffered: { value: () => inner.buffered() },
    drained: { value: (bytes: number) => inner.drained(bytes) },
    close: { value: (reason?: string) => inner.close(reason) },
    binding: { get: () => inner.binding },
    closed: { get: () => inner.closed },
    maxMessage: { get: () => inner.maxMessage },
    kind: { get: () => inner.kind },
  }) as Channel;
  return { channel, swallow: () => swallows = true };
}

/** Two ends that open connections as they need them; `opened` sees each channel of a's. */
function linked(
  [ta, tb]: [Transport, Transport],
  lanes: Sizes,
  clock: Clock,
  opened: (channel: Channel) => Channel,
): Promise<[Link, Link]> {
  const ends = new Map<string, Linking>();
  const linking = (self: "a" | "b", peer: "a" | "b", transport: Transport) =>
    new Linking({
      transport,
      clock,
      self,
      peer,
      run: "run",
      generation: 7,
      credentials: credentials[self],
      lanes,
      signal: (body) => queueMicrotask(() => ends.get(peer)?.receive(structuredClone(body))),
    });
  ends.set("a", linking("a", "b", { ...ta, open: async (...road) => opened(await ta.open(...road)) }));
  ends.set("b", linking("b", "a", tb));
  return Promise.all([ends.get("a")!.link, ends.get("b")!.link]);
}

for (const transport of transports) {
  if (transport.ends === undefined) continue;
  const name = `link over ${transport.name}`, leaves = transport.name === "memory" ? clean : lenient;

  Deno.test(
    `${name}: a connection that is lost is replaced, and every frame comes once and in order`,
    leaves,
    async () => {
      const channels: Channel[] = [], count = 150;
      const [a, b] = await linked(transport.ends!(), sizes(50_000), denoRuntime(), (channel) => {
        channels.push(channel);
        return channel;
      });
      const arrivals = [expectFrames(a, count), expectFrames(b, count)];
      for (let i = 0; i < count; i++) {
        for (const link of [a, b]) link.send("pipeline", header(i), [pattern(i, 20_000)]);
        if (i === count / 3) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          channels[0].close("the network path to the peer is lost");
        }
      }
      await Promise.all(arrivals);
      assertEquals(channels.length, 2);
      assertEquals([a.counters.lost, a.counters.paths], [1, 1]);
      a.close();
      assertEquals((await b.closed).orderly, true);
      assertEquals((await a.closed).orderly, true);
    },
  );

  Deno.test(
    `${name}: half-open, so that one end hears nothing and is told nothing: suspected, then dead`,
    lenient, // the follower goes on listening for a while
    async () => {
      const real = denoRuntime();
      let swallow = () => {}, down = false;
      const ends = transport.ends!(), [ta] = ends;
      const noMore: Transport = {
        ...ta,
        open: (...road) => down ? Promise.reject(new LinkError("no network")) : ta.open(...road),
      };
      // Five times as fast as real time, so that five seconds are one; handshakes take their own time.
      const fast: Clock = {
        ...real,
        now: () => real.now() * 5,
        timer: (ms, fire) => real.timer(ms / 5, fire),
      };
      const [a, b] = await linked([noMore, ends[1]], sizes(1_000), fast, (channel) => {
        const hole = blackHole(channel);
        swallow = hole.swallow;
        return hole.channel;
      });
      const suspected: boolean[] = [];
      for (const link of [a, b]) link.onsuspected = (now) => suspected.push(now);
      down = true;
      swallow();
      for (const { orderly, reason } of await Promise.all([a.closed, b.closed])) {
        assertEquals(orderly, false);
        assertStringIncludes(reason, "silent for 5");
      }
      assertEquals(suspected, [true, true]);
    },
  );
}

// Last, and so not by an import at the top: what they leave for a second would count as leaks of tests that must be clean.
await import("./native.ts");
