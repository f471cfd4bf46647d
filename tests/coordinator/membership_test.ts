/** Who is let in, and what strangers are told. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { MemberEvent } from "../../coordinator/coordinator.ts";
import { HELLO_MS, Membership, MOST_STRANGERS } from "../../coordinator/membership.ts";
import { decodeMessage, encodeMessage } from "../../mesh/codec.ts";
import { type MemoryChannel, memoryChannelPair } from "../../mesh/memory_transport.ts";
import { FromCoordinator, PROTOCOL_VERSION } from "../../mesh/messages.ts";
import type { Runtime } from "../../mesh/runtime.ts";

/** A clock that stands still until it is told the time. */
class StillClock implements Pick<Runtime, "now" | "wall" | "timer"> {
  time = 0;
  #timers: { at: number; fire: () => void }[] = [];
  now = () => this.time;
  wall = () => this.time;
  timer(ms: number, fire: () => void) {
    const entry = { at: this.time + ms, fire };
    this.#timers.push(entry);
    return { cancel: () => this.#timers = this.#timers.filter((t) => t !== entry) };
  }
  advance(ms: number) {
    this.time += ms;
    const due = this.#timers.filter((t) => t.at <= this.time);
    this.#timers = this.#timers.filter((t) => t.at > this.time);
    for (const { fire } of due) fire();
  }
}

const profile = { device: "reference", deviceName: "d", flops: 1, bandwidth: 1, memory: 1, maxBinding: 1 };
const hello = {
  type: "hello",
  protocol: PROTOCOL_VERSION,
  software: "t",
  secret: "right",
  name: "a",
  profile,
};

function door(expires?: number, judging: Promise<void> = Promise.resolve()) {
  const clock = new StillClock(), events: MemberEvent[] = [];
  const matches = (secret: string) => judging.then(() => secret === "right");
  const admission = { matches, expires: () => expires, mesh: "m" };
  const membership = new Membership(clock, admission, (event) => events.push(event));
  /** Knocks, says something and answers with what came back and why the connection ended (if it did). */
  const knock = async (...messages: unknown[]) => {
    const [ours, theirs] = memoryChannelPair();
    membership.admit(ours);
    const heard: FromCoordinator[] = [];
    theirs.onmessage = (bytes) => heard.push(decodeMessage(FromCoordinator, bytes));
    for (const message of messages) theirs.send(encodeMessage(message));
    const reason = await Promise.race([theirs.closed, settle().then(() => undefined)]);
    return { heard, reason, theirs };
  };
  return { clock, events, membership, knock };
}

/** Lets everything that needs no time happen. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

const close = (membership: Membership, ...channels: MemoryChannel[]) => {
  membership.close("the test is over");
  for (const channel of channels) channel.close();
};

Deno.test("who shows the secret is welcome and a member until it goes", async () => {
  const { membership, knock, events } = door();
  const { heard, theirs } = await knock(hello);
  assertEquals(heard, [{ type: "welcome", id: "a", run: "m" }]);
  assertEquals(membership.members.map((m) => m.id), ["a"]);
  theirs.close("goodbye");
  await settle();
  assertEquals(membership.members, []);
  assertEquals(events.map((e) => e.event), ["joined", "left"]);
  close(membership);
});

const refusals: [what: string, hello: unknown, says: string][] = [
  ["a wrong secret", { ...hello, secret: "wrong" }, "secret is wrong"],
  ["an older version", { ...hello, protocol: 0 }, `speaks protocol 0, this coordinator ${PROTOCOL_VERSION}`],
  [
    "a newer version whose hello looks different",
    { type: "hello", protocol: 99, what: [1] },
    "coordinator's program is older",
  ],
  ["a name that is no name", { ...hello, name: "../x" }, '"../x" cannot be used'],
  ["the name of a prototype", { ...hello, name: "__proto__" }, "cannot be used"],
];
for (const [what, message, says] of refusals) {
  Deno.test(`a stranger is refused: ${what}`, async () => {
    const { membership, knock, events } = door();
    const { heard, reason } = await knock(message);
    assert(heard.length === 1 && heard[0].type === "refused");
    assertStringIncludes(heard[0].reason, says);
    assertEquals([reason, events.map((e) => e.event), membership.members], ["refused", ["refused"], []]);
    close(membership);
  });
}

Deno.test("an invite that has expired is refused", async () => {
  const { membership, knock, clock } = door(1_000);
  const first = await knock(hello);
  assertEquals(first.heard[0].type, "welcome");
  clock.time = 1_000;
  const { heard } = await knock({ ...hello, name: "b" });
  assert(heard[0].type === "refused");
  assertStringIncludes(heard[0].reason, "has expired (1970-01-01T00:00:01.000Z)");
  close(membership, first.theirs);
});

Deno.test("a name can be had once at a time, and the secret comes before the name", async () => {
  const { membership, knock } = door();
  const first = await knock(hello),
    second = await knock(hello),
    liar = await knock({ ...hello, secret: "wrong" });
  assert(second.heard[0].type === "refused" && liar.heard[0].type === "refused");
  assertStringIncludes(second.heard[0].reason, "called a has joined already");
  assertStringIncludes(liar.heard[0].reason, "secret");
  first.theirs.close();
  await settle();
  assertEquals((await knock(hello)).heard[0].type, "welcome");
  close(membership);
});

Deno.test("strangers get answers to pings and to nothing else", async () => {
  const { membership, knock } = door();
  const quiet = await knock({ type: "ping", id: 7 });
  assertEquals([quiet.heard, quiet.reason], [[{ type: "pong", id: 7 }], undefined]);
  for (
    const message of [
      { type: "linked", generation: 1 },
      { type: "pull", id: 1, tensor: "t", part: "weight", start: 0, length: 1 },
      { ...hello, extra: 1 },
      "hello",
      { ...hello, software: "x".repeat(70_000) },
    ]
  ) {
    const { heard, reason } = await knock(message);
    assertEquals(heard, []);
    assert(reason !== undefined, "the connection is closed");
  }
  assertEquals(membership.members, []);
  close(membership, quiet.theirs);
});

Deno.test("signs of life while a hello is judged are no fault, a second hello is", async () => {
  const judged = Promise.withResolvers<void>(),
    { membership, knock, events } = door(undefined, judged.promise);
  const one = await knock(hello, { type: "ping", id: 1 }, { type: "pong", id: 2 });
  assertEquals(one.heard, [{ type: "pong", id: 1 }]);
  assertEquals((await knock({ ...hello, name: "b" }, { ...hello, name: "b" })).reason, "said hello twice");
  judged.resolve();
  await settle();
  assertEquals(one.heard.at(-1), { type: "welcome", id: "a", run: "m" });
  assertEquals(events.map((e) => e.event), ["joined"], "who went before is not let in");
  close(membership);
});

Deno.test("strangers who say nothing are few and do not stay", async () => {
  const { membership, knock, clock } = door();
  const silent = await Promise.all(Array.from({ length: MOST_STRANGERS }, () => knock()));
  assertStringIncludes((await knock(hello)).reason!, "too many");
  clock.advance(HELLO_MS);
  await settle();
  for (const { theirs } of silent) assertStringIncludes(await theirs.closed, "no hello");
  assertEquals((await knock(hello)).heard[0].type, "welcome");
  close(membership);
});
