/** A device of which a share is lent, on a virtual clock. */
import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { DutyClock } from "../../worker/duty_clock.ts";

function lent(share: number, settled: () => Promise<unknown> = () => Promise.resolve()) {
  const clock = new VirtualClock();
  const pass = (ms: number) => new Promise<void>((resolve) => void clock.timer(ms, resolve));
  return { clock, pass, duty: new DutyClock({ share, now: () => clock.now(), rest: pass, settled }) };
}

for (const share of [0.5, 0.25, 0.8]) {
  Deno.test(`at ${share} a device works for that share of the time, whoever asks and however many at once`, async () => {
    const { clock, pass, duty } = lent(share);
    let worked = 0;
    const piece = (ms: number) =>
      duty.during(async () => {
        await pass(ms);
        worked += ms;
        return clock.now();
      });
    const ends = await clock.until(Promise.all([10, 30, 5, 20].map(piece)));
    // The last piece's result is there before its rest.
    assertAlmostEquals(clock.now(), 45 / share + 20);
    assertEquals(ends.toSorted((a, b) => a - b), ends, "in the order in which they were asked for");
    await clock.until(duty.during(() => Promise.resolve()));
    assertAlmostEquals(clock.now(), worked / share);
    assertAlmostEquals(duty.take(), worked / share, 1e-6, "what it rests the mesh does not have");
  });
}

Deno.test("waiting for another worker is neither work nor rest, and others use the device meanwhile", async () => {
  const { clock, pass, duty } = lent(0.5);
  const first = duty.during(async () => {
    await pass(10);
    await duty.outside(() => pass(100));
    await pass(10);
    return clock.now();
  });
  const second = duty.during(async () => {
    await pass(15);
    return clock.now();
  });
  // 10 of work, 10 of rest, then the other's 15; back at 110, and done.
  assertEquals(await clock.until(Promise.all([first, second])), [120, 35]);
  await clock.until(duty.during(() => Promise.resolve()));
  assertEquals(duty.take(), 70);
});

Deno.test("work that was only started counts to its end; a failed piece does not stop the next", async () => {
  const { clock, pass, duty } = lent(0.5, () => pass(40));
  await clock.until(duty.during(() => Promise.resolve()));
  assertEquals(clock.now(), 0, "nobody waits for what runs on");
  await assertRejects(
    () => clock.until(duty.during(() => Promise.reject(new Error("broken")))),
    Error,
    "broken",
  );
  assertEquals(clock.now(), 80);
  await clock.until(duty.during(() => Promise.resolve()));
  assertEquals(clock.now(), 160);
});
