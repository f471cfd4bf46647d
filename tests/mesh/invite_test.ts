import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { InviteError } from "../../mesh/errors.ts";
import { formatInvite, newInvite, parseInvite, sameSecret } from "../../mesh/invite.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

const clock = new VirtualClock(5);
const invite = newInvite(clock, "ws://192.0.2.7:7700");
const line = formatInvite(invite);

Deno.test("an invite survives the line, with and without expiry", () => {
  assertMatch(line, /^volary:[A-Za-z0-9_-]+$/);
  assertEquals(parseInvite(` ${line}\n`, clock.wall()), invite);
  const short = newInvite(clock, "wss://example.org/mesh", 90_000);
  assertEquals(parseInvite(formatInvite(short), clock.wall() + 60_000), short);
  assert(short.secret !== invite.secret);
});

Deno.test("an expired invite says when it expired and what to do", () => {
  const short = newInvite(clock, "ws://127.0.0.1:1", 60_000);
  assertThrows(
    () => parseInvite(formatInvite(short), clock.wall() + 200_000),
    InviteError,
    "expired on 2026-01-01",
  );
});

Deno.test("every single wrong character of an invite is noticed", () => {
  const start = "volary:".length;
  for (let i = start; i < line.length; i++) {
    const other = line[i] === "A" ? "B" : "A";
    // The last character's lowest bits belong to no byte.
    if (i === line.length - 1) continue;
    assertThrows(() => parseInvite(line.slice(0, i) + other + line.slice(i + 1), 0), InviteError);
    assertThrows(() => parseInvite(line.slice(0, i), 0), InviteError);
  }
});

Deno.test("what is no invite is named", () => {
  assertThrows(() => parseInvite("ws://127.0.0.1", 0), InviteError, "does not begin with");
  assertThrows(() => parseInvite("volary:", 0), InviteError, "cut short");
  assertThrows(() => parseInvite("volary:ab cd", 0), InviteError, "characters");
  assertThrows(() => parseInvite("volary:" + "A".repeat(5_000), 0), InviteError, "too long");
  assertThrows(
    () => parseInvite(line.slice(0, 20) + (line[20] === "x" ? "y" : "x") + line.slice(21), 0),
    InviteError,
    "typo",
  );
  assertThrows(() => newInvite(clock, "http://127.0.0.1"), InviteError, "ws://");
  assertThrows(() => newInvite(clock, "not an address"), InviteError, "ws://");
});

Deno.test("secrets are compared", async () => {
  assert(await sameSecret(clock, invite.secret, invite.secret));
  assert(!await sameSecret(clock, invite.secret.slice(1), invite.secret));
  assert(!await sameSecret(clock, "", invite.secret));
});
