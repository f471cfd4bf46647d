import { assert, assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { InviteError } from "../../mesh/errors.ts";
import { formatInvite, newInvite, parseInvite } from "../../mesh/identity/invite.ts";
import { sameSecret } from "../../mesh/identity/secret.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

const clock = new VirtualClock(5);
const coordinator = clock.random(32);
const make = (address: string, expires?: number) => newInvite(clock, { address, coordinator, expires });
const invite = make("ws://192.0.2.7:7700");
const line = formatInvite(invite);

Deno.test("an invite survives the line, with and without expiry", () => {
  assertMatch(line, /^volary:[A-Za-z0-9_-]+$/);
  assertEquals(parseInvite(` ${line}\n`), invite);
  const short = make("wss://example.org/mesh", clock.wall() + 90_000);
  assertEquals(parseInvite(formatInvite(short)), short);
  assertEquals(short.expires, clock.wall() + 120_000, "whole minutes");
  assertNotEquals(short.secret, invite.secret);
});

Deno.test("every single wrong character of an invite is noticed", () => {
  const start = "volary:".length;
  for (let i = start; i < line.length; i++) {
    const other = line[i] === "A" ? "B" : "A";
    // The last character's lowest bits belong to no byte.
    if (i === line.length - 1) continue;
    assertThrows(() => parseInvite(line.slice(0, i) + other + line.slice(i + 1)), InviteError);
    assertThrows(() => parseInvite(line.slice(0, i)), InviteError);
  }
});

Deno.test("what is no invite is named", () => {
  assertThrows(() => parseInvite("ws://127.0.0.1"), InviteError, "does not begin with");
  assertThrows(() => parseInvite("volary:"), InviteError, "cut short");
  assertThrows(() => parseInvite("volary:ab cd"), InviteError, "characters");
  assertThrows(() => parseInvite("volary:" + "A".repeat(5_000)), InviteError, "too long");
  assertThrows(
    () => parseInvite(line.slice(0, 20) + (line[20] === "x" ? "y" : "x") + line.slice(21)),
    InviteError,
    "typo",
  );
  // Made by the program before this one.
  assertThrows(
    () => parseInvite("volary:AQCwxTifFZe4dec6x72pA3dMd3M6Ly8xOTIuMC4yLjc6NzcwMFeHLV8"),
    InviteError,
    "format 1",
  );
  assertThrows(() => make("http://127.0.0.1"), InviteError, "ws://");
  assertThrows(() => make("not an address"), InviteError, "ws://");
});

Deno.test("secrets are compared", async () => {
  assert(await sameSecret(clock, "open sesame", "open sesame"));
  assert(!await sameSecret(clock, "open sesam", "open sesame"));
  assert(!await sameSecret(clock, "", "open sesame"));
});
