/** What a person says about lending, and what is shown of it. */
import { assertEquals, assertThrows } from "@std/assert";
import { LENT_FLAGS, lentOf, lentText } from "../../cli/lent.ts";
import { readFlags } from "../../cli/verb.ts";

const noon = new Date(2026, 4, 3, 12, 0, 0);
const of = (...args: string[]) => lentOf(readFlags(args, { string: [...LENT_FLAGS] }), noon);

Deno.test("a share, a rate and a time of day are understood and shown again", () => {
  assertEquals(of(), undefined);
  assertEquals(of("--share", "100%"), undefined);
  const lent = of("--share", "50%", "--bandwidth", "20Mbit", "--until", "18:00");
  assertEquals(lent, { share: 0.5, sending: 2.5e6, until: new Date(2026, 4, 3, 18).getTime() });
  assertEquals(lentText(lent), "50%, 20 Mbit/s, until 18:00");
  assertEquals(lentText(undefined), "");
  assertEquals(of("--until", "9:30"), { until: new Date(2026, 4, 4, 9, 30).getTime() }, "tomorrow");
  assertEquals(of("--bandwidth", "1.5 Gbit/s"), { sending: 1.5e9 / 8 });
});

for (
  const [flag, value, says] of [
    ["--share", "0.5", "50%"],
    ["--share", "150%", "50%"],
    ["--share", "1%", "at least 5%"],
    ["--bandwidth", "20MB", "20Mbit"],
    ["--bandwidth", "100kbit", "at least 1Mbit"],
    ["--until", "25:00", "18:00"],
    ["--until", "tomorrow", "18:00"],
  ]
) {
  Deno.test(`${flag} ${value} is refused with what would do`, () => {
    assertThrows(() => of(flag, value), Error, says);
  });
}
