/** A hundred thousand lies; `deno task bench fuzz` tells a million. */
import { assert, assertEquals } from "@std/assert";
import { LaneBounds } from "../../mesh/link/lanes.ts";
import { fuzzDescriptions, fuzzLinks, fuzzMessages } from "../../bench/security/fuzz_messages.ts";

Deno.test("60,000 messages on links, many of them damaged: links end or go on, and hold what they granted", async () => {
  const { tried, refused, mostHeld } = await fuzzLinks(60_000, 1);
  assertEquals(tried, 60_000);
  assert(refused > 1_000, `${refused} links ended`);
  assert(mostHeld <= 3 * new LaneBounds(4_096).window, `${mostHeld} bytes held`);
});

Deno.test("30,000 damaged control messages and headers are refused by errors of ours, or are valid", () => {
  const { refused } = fuzzMessages(30_000, 2);
  assert(refused > 20_000, `${refused} refused`);
});

Deno.test("10,000 strange descriptions of an end are read or refused", () => {
  const { refused } = fuzzDescriptions(10_000, 3);
  assert(refused > 9_000, `${refused} refused`);
});
