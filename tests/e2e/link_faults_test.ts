/** A link between two processes: one of them stopped or killed, the road between them cut. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type LinkEnd, linkPair } from "../../bench/links/link_pair.ts";
import { Relay } from "../../bench/links/relay.ts";

/** Beyond what the links promise: this machine may be busy, and a heartbeat may just have passed. */
const SLACK_MS = 1_500;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

type Pair = ReturnType<typeof linkPair>;

/** Frames flow for `ms`; `during` does the damage. */
async function pair(ms: number, during: (pair: Pair, relay: Relay) => Promise<void>): Promise<void> {
  const relay = new Relay({ roundTrip: 10, loss: 0, seed: 1 });
  const common = { transport: "werift", frameBytes: 20_000 } as const,
    both = linkPair({ ...common, ms }, common, relay);
  try {
    await Promise.all([both.sender.next("open"), both.receiver.next("open")]);
    await wait(500);
    await during(both, relay);
  } finally {
    await both.end();
    relay.close();
  }
}

async function suspectedAfter(end: LinkEnd, from: number): Promise<void> {
  const { suspected, at } = await end.next("suspected");
  assertEquals(suspected, true);
  const ms = Number(at) - from;
  assert(ms < 1_500 + SLACK_MS, `suspected after ${ms} ms`);
}

async function deadAfter(end: LinkEnd, from: number): Promise<void> {
  const { orderly, reason, at } = await end.next("closed");
  assertEquals(orderly, false);
  assertStringIncludes(String(reason), "silent");
  const ms = Number(at) - from;
  assert(ms > 4_000 && ms < 5_500 + SLACK_MS, `dead after ${ms} ms`);
}

Deno.test("a cable cut for 3 s: suspected, healed, every frame once and in order", () =>
  pair(7_000, async ({ sender, receiver }, relay) => {
    const from = Date.now(), suspected = [suspectedAfter(sender, from), suspectedAfter(receiver, from)];
    const closed = [sender.next("closed"), receiver.next("closed")], received = receiver.next("received");
    const sent = sender.next("sent");
    relay.cut = true;
    await wait(3_000);
    relay.cut = false;
    await Promise.all(suspected);
    const { frames } = await sent, { frames: came, wrong } = await received;
    assertEquals([came, wrong], [frames, 0]);
    for (const { orderly } of await Promise.all(closed)) assertEquals(orderly, true);
  }));

Deno.test("a cable cut for 30 s: both ends give up after 5 s", () =>
  pair(60_000, async ({ sender, receiver }, relay) => {
    const from = Date.now(), both = [sender, receiver];
    const said = both.flatMap((end) => [suspectedAfter(end, from), deadAfter(end, from)]);
    relay.cut = true; // for as long as anybody is there to notice
    await Promise.all(said);
  }));

Deno.test("a process that is killed: suspected, then dead, and the other goes on without it", () =>
  pair(60_000, async ({ sender, receiver }) => {
    const from = Date.now(), said = [suspectedAfter(sender, from), deadAfter(sender, from)];
    receiver.process.kill("SIGKILL");
    await Promise.all(said);
  }));

Deno.test("a process that is stopped for 3 s: suspected, healed, every frame once", () =>
  pair(6_000, async ({ sender, receiver }) => {
    const from = Date.now(), suspected = suspectedAfter(sender, from), received = receiver.next("received");
    const sent = sender.next("sent"), closed = sender.next("closed");
    receiver.process.kill("SIGSTOP");
    await wait(3_000);
    receiver.process.kill("SIGCONT");
    await suspected;
    assertEquals((await sender.next("suspected")).suspected, false);
    const { frames } = await sent, { frames: came, wrong } = await received;
    assertEquals([came, wrong], [frames, 0]);
    assertEquals((await closed).orderly, true);
  }));
