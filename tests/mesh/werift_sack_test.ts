/** When a werift association acknowledges what came. */
import { assertEquals } from "@std/assert";
import { limits } from "../../mesh/limits.ts";
import { type Acknowledging, gatherSacks } from "../../mesh/transports/werift_sack.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

/** Counts its answers; one that is under way forgets, as werift's does, what came meanwhile. */
class Association implements Acknowledging {
  sackNeeded = false;
  sackHasNewDataInPacket = true;
  sackMisOrdered = new Set<number>();
  sackDuplicates: number[] = [];
  answers = 0;

  scheduleSack(): Promise<void> {
    throw new Error("werift's own is replaced");
  }

  async sendSack(): Promise<void> {
    if (!this.sackNeeded) return;
    this.answers++;
    await Promise.resolve();
    this.sackDuplicates = [];
    this.sackNeeded = false;
  }

  /** Answers to so many packets in order, without a pause. */
  async packets(count: number): Promise<number> {
    const before = this.answers;
    for (let i = 0; i < count; i++) await this.packet();
    return this.answers - before;
  }

  packet(): Promise<void> {
    this.sackNeeded = true;
    return this.scheduleSack();
  }
}

function gathering() {
  const association = new Association(), clock = new VirtualClock();
  const stop = gatherSacks(association, clock);
  return { association, clock, stop };
}

/** Lets the time pass that packets wait for others. */
function pass(clock: VirtualClock): Promise<void> {
  return clock.until(new Promise((resolve) => void clock.timer(limits.gatheredMs, resolve)));
}

Deno.test("every second packet is acknowledged at first, every eighth once many came in order", async () => {
  const { association } = gathering();
  assertEquals(await association.packets(256), 128);
  assertEquals(await association.packets(800), 100);
});

Deno.test("a loss is told at once, what fills the gap too, and every second packet then", async () => {
  const { association } = gathering();
  await association.packets(400);
  association.sackMisOrdered.add(7);
  assertEquals(await association.packets(5), 5);
  association.sackMisOrdered.clear();
  assertEquals(await association.packets(1), 1);
  assertEquals(await association.packets(20), 10);
  association.sackDuplicates.push(7);
  assertEquals(await association.packets(1), 1);
});

Deno.test("the last packets need not wait for others, also those that came while an answer was on its way", async () => {
  const { association, clock, stop } = gathering();
  await association.packets(1);
  assertEquals(association.answers, 0);
  await pass(clock);
  assertEquals(association.answers, 1);
  const second = association.packets(2), third = association.packet();
  await Promise.all([second, third]);
  await pass(clock);
  assertEquals(association.answers, 3);
  await association.packet();
  stop();
  await pass(clock);
  assertEquals(association.answers, 3, "the channel is closed");
});
