/** What strangers are told, and that nothing they say or leave unsaid harms others. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { HELLO_MS } from "../../coordinator/admission/membership.ts";
import { encodeMessage } from "../../mesh/control/codec.ts";
import { applyToCoordinator, meetCoordinator } from "../../mesh/control/handshake_control.ts";
import { ClockError } from "../../mesh/errors.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { limits } from "../../mesh/limits.ts";
import { PROTOCOL_VERSION } from "../../mesh/control/messages.ts";
import { door, hello, said } from "./door.ts";

Deno.test("another version is told which, and how to upgrade", async () => {
  const { membership, open, clock, identity, events } = await door();
  const knock = new Uint8Array(67);
  new DataView(knock.buffer).setUint16(1, PROTOCOL_VERSION + 1, true);
  const channel = open(), heard: Uint8Array[] = [];
  channel.onmessage = (bytes) => heard.push(bytes);
  channel.send(knock);
  assertStringIncludes(
    await clock.until(channel.closed),
    `speaks protocol ${PROTOCOL_VERSION + 1}, this coordinator ${PROTOCOL_VERSION}. The coordinator's ` +
      "program is older",
  );
  assertEquals(heard, [Uint8Array.of(5, PROTOCOL_VERSION, 0)]);
  assertEquals(events.length, 1);
  // And a worker that is told so.
  const old = open(), worker = await newIdentity();
  const asked = meetCoordinator(old, { coordinator: identity.publicKey }, {
    clock,
    chance: clock,
    identity: worker,
  });
  old.other.send(Uint8Array.of(5, 1, 0));
  await assertRejects(() => clock.until(asked), Error, "The coordinator speaks protocol 1, this worker");
  membership.close("over");
});

Deno.test("a worker whose clock is an hour off, either way, is told so and stays a stranger", async () => {
  const { membership, open, clock, invite } = await door(), all = await invite();
  for (const hours of [1, -1]) {
    const wrong = {
      now: () => clock.now(),
      wall: () => clock.wall() + hours * 3_600_000,
      timer: clock.timer.bind(clock),
    };
    const introduction = { clock: wrong, chance: clock, identity: await newIdentity() };
    const error = await assertRejects(
      () => clock.until(applyToCoordinator(open(), all, introduction)),
      ClockError,
      "they are 60 minutes apart, the most is 5. Set the one that is wrong",
    );
    assertEquals(error.name, "ClockError");
  }
  const close = {
    now: () => clock.now(),
    wall: () => clock.wall() + 240_000,
    timer: clock.timer.bind(clock),
  };
  const introduction = { clock: close, chance: clock, identity: await newIdentity() };
  assertEquals(await clock.until(applyToCoordinator(open(), all, introduction)), undefined);
  assertEquals(membership.known.length, 1);
  membership.close("over");
});

Deno.test("strangers are not listened to: whatever they say, nothing of it is read", async () => {
  const { membership, open, clock, events } = await door();
  for (
    const message of [
      encodeMessage({ type: "linked", generation: 1 }),
      encodeMessage({ type: "pull", id: 1, tensor: "t", part: "weight", start: 0, length: 1 }),
      encodeMessage(hello("a")),
      new Uint8Array(0),
      new Uint8Array(2),
      new Uint8Array(67), // a knock of version 0
      Uint8Array.of(0, PROTOCOL_VERSION, 0),
      new Uint8Array(70_000),
    ]
  ) {
    const channel = open();
    channel.onmessage = () => {};
    channel.send(message);
    assert((await clock.until(channel.closed)).length > 0);
  }
  assertEquals([membership.members.length, membership.halfOpen], [0, 0]);
  assert(events.every((e) => e.event === "refused"));
  membership.close("over");
});

Deno.test("what was overheard of a handshake opens nothing", async () => {
  const { membership, invite, knock, open, clock } = await door();
  const overheard: Uint8Array<ArrayBuffer>[] = [];
  const channel = open(),
    send = channel.send.bind(channel),
    worker = await newIdentity(),
    all = await invite();
  channel.send = (message) => {
    overheard.push(message.slice());
    send(message);
  };
  const admitted = applyToCoordinator(channel, all, { clock, chance: clock, identity: worker });
  assertEquals(await clock.until(admitted), undefined);
  assertEquals(overheard.length, 2);
  const replay = open();
  replay.onmessage = () => {};
  for (const message of overheard) replay.send(message);
  assertEquals(await clock.until(replay.closed), "the proof is not good");
  // Another's proof under one's own key: the words name the key.
  const mine = open(), stolen = overheard[0].slice();
  mine.onmessage = () => {};
  stolen.set((await newIdentity()).publicKey, 35);
  mine.send(stolen);
  mine.send(overheard[1]);
  assertEquals(await clock.until(mine.closed), "the proof is not good");
  assertEquals(said(await knock(all, await newIdentity(), "b"))[0].type, "welcome", "others are unharmed");
  membership.close("over");
});

Deno.test("who is let in but says nothing, or not hello, does not stay", async () => {
  const { membership, invite, knock, clock } = await door(), all = await invite();
  const rude = await knock(all, await newIdentity());
  rude.channel.send(encodeMessage({ type: "linked", generation: 1 }));
  assertEquals(await clock.until(rude.channel.closed), "a hello was expected");
  const mute = await knock(all, await newIdentity());
  const alive = () => {
    try {
      mute.channel.send(encodeMessage({ type: "ping", id: 1 }));
      clock.timer(limits.heartbeatMs, alive);
    } catch {
      // It is closed, as it should be.
    }
  };
  alive();
  const began = clock.now();
  assertEquals(await clock.until(mute.channel.closed), "no hello came in time");
  assert(clock.now() - began <= HELLO_MS);
  membership.close("over");
});

Deno.test("a flood of 1,000 half-open joins delays a real one by nothing and fills nothing", async () => {
  const { membership, invite, knock, open, clock, identity } = await door(), all = await invite();
  const worker = await newIdentity(), flood: ReturnType<typeof open>[] = [];
  const more = (count: number) => {
    for (let i = 0; i < count; i++) {
      const channel = open();
      flood.push(channel);
      if (i % 2 === 0) continue; // says nothing
      // The other half knocks, has the coordinator sign, and stops there.
      const introduction = { clock, chance: clock, identity: worker };
      meetCoordinator(channel, { coordinator: identity.publicKey }, introduction).catch(() => {});
    }
  };
  more(1_000);
  assertEquals(membership.halfOpen, 1_000);
  const began = clock.now();
  assertEquals(said(await knock(all, await newIdentity(), "real"))[0].type, "welcome");
  assert(clock.now() - began <= 1_000, `${clock.now() - began} ms`);
  assert(membership.halfOpen <= limits.halfOpen);
  assertEquals(membership.members.map((m) => m.id), ["real"]);
  more(2_000);
  assertEquals(membership.halfOpen, limits.halfOpen, "as many as there may be");
  await clock.pass(limits.connectMs);
  assertEquals(membership.halfOpen, 0, "their time is over");
  assertEquals((await Promise.all(flood.map(({ closed }) => closed))).length, 3_000);
  membership.close("over");
});
