/** Names and passwords for a TURN server: how they are made, who gets them, and that they are renewed in time. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { createHmac } from "node:crypto";
import { TurnGrants } from "../../coordinator/admission/turn_grants.ts";
import { control, type Heard } from "../../mesh/control/control.ts";
import { LinkError } from "../../mesh/errors.ts";
import { needsTurn, parseTurn, turnText } from "../../mesh/transports/ice_servers.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { limits } from "../../mesh/limits.ts";
import { FromCoordinator, type FromWorker, type Turn } from "../../mesh/control/messages.ts";
import { door, hello, said } from "./door.ts";

const SECRET = "known to coturn and the coordinator";

Deno.test("a name ends in an hour and its password is the secret's mark on it, as coturn makes it", async () => {
  const wall = Date.UTC(2026, 10, 22),
    grants = new TurnGrants(parseTurn("turns:t.example"), SECRET, {
      wall: () => wall + 900, // whole seconds count
    });
  const { url, username, password } = await grants.grant("worker-1");
  assertEquals(url, "turns:t.example:5349?transport=tcp");
  assertEquals(username, `${wall / 1_000 + 3_600}:worker-1`);
  // echo -n NAME | openssl dgst -binary -sha1 -hmac SECRET | openssl base64, from coturn's turnserver(1)
  assertEquals(password, createHmac("sha1", SECRET).update(username).digest("base64"));
});

Deno.test("a worker gets one with its welcome and another one before it ends; the secret stays", async () => {
  const address = parseTurn("turn:192.0.2.7:3478?transport=tcp");
  const { membership, invite, knock, clock } = await door(
    {},
    (clock) => new TurnGrants(address, SECRET, clock),
  );
  const { channel } = await knock(await invite(), await newIdentity());
  const own = control<typeof FromCoordinator, FromWorker>(channel, FromCoordinator, clock);
  const heard: Heard<FromCoordinator>[] = [];
  let came = Promise.withResolvers<void>();
  own.onmessage = (message) => {
    heard.push(message);
    came.resolve();
    came = Promise.withResolvers();
  };
  own.send(hello("a") as FromWorker);
  await clock.until(came.promise);
  const began = clock.wall(), [welcome] = heard;
  assert(welcome.type === "welcome" && welcome.turn !== undefined);
  const ends = ({ username }: Turn) => Number(username.split(":")[0]) * 1_000;
  assert(Math.abs(ends(welcome.turn) - began - limits.turnMs) < 2_000);
  assertEquals(welcome.turn.url, "turn:192.0.2.7:3478?transport=tcp");
  for (let i = 1; i <= 3; i++) {
    await clock.until(came.promise);
    assert(Math.abs(clock.wall() - began - i * limits.turnMs / 2) < 1_000);
    const renewed = heard[i];
    assert(renewed?.type === "turn", `${heard.length} messages`);
    assertNotEquals(renewed.turn.password, welcome.turn.password);
    assert(ends(renewed.turn) > clock.wall() + limits.turnMs - 2_000);
  }
  assert(!JSON.stringify(heard).includes(SECRET));
  own.close("goodbye");
  await clock.pass(limits.turnMs);
  assertEquals(heard.length, 4, "who has left gets no more");
  membership.close("over");
});

Deno.test("a mesh without a TURN server names none", async () => {
  const { membership, invite, knock } = await door();
  assertEquals(said(await knock(await invite(), await newIdentity(), "a")), [
    { type: "welcome", id: "a", run: "m" },
  ]);
  membership.close("over");
});

Deno.test("addresses of TURN servers", () => {
  for (
    const [url, text] of [
      ["turn:h", "turn:h:3478?transport=udp"],
      ["turn:h:1?transport=udp", "turn:h:1?transport=udp"],
      ["turn:10.0.0.1:99?transport=tcp", "turn:10.0.0.1:99?transport=tcp"],
      ["turns:h.example", "turns:h.example:5349?transport=tcp"],
      ["turns:[2001:db8::1]:443?transport=tcp", "turns:[2001:db8::1]:443?transport=tcp"],
    ]
  ) assertEquals(turnText(parseTurn(url)), text);
  for (
    const url of [
      "stun:h",
      "turn://h",
      "turn:h:0",
      "turn:h:65536",
      "turns:h?transport=udp",
      "turn:",
      "turn:u@h",
    ]
  ) {
    assertThrows(() => parseTurn(url), LinkError, "is no TURN server");
  }
  assertThrows(() => needsTurn({ relayOnly: true }), LinkError, "volary up --turn");
  needsTurn({});
});
