/** Frames of the pipeline: by key, each once, of the plan's size, with credit given back on taking. */
import { assertEquals, assertThrows } from "@std/assert";
import type { FrameHeader } from "../../mesh/tensors/frame.ts";
import { sliceFor } from "../../mesh/plan.ts";
import { GenerationOverError, PlanViolationError } from "../../worker/errors.ts";
import { Inbox } from "../../worker/inbox.ts";
import { sizesOf } from "../../worker/sizes.ts";
import { HIDDEN } from "./fake_compute.ts";
import { stagesOfTwo, tinyPlan, twoStages } from "./small_mesh.ts";

const BYTES = 2 * 3 * HIDDEN * 4;

/** The inbox of the second of two stages, in round 3. */
function inbox() {
  const slice = sliceFor(tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }), "b");
  const box = new Inbox(slice, sizesOf(slice));
  box.enter(3, false);
  const state = { consumed: 0 };
  const deliver = (header: Partial<FrameHeader> = {}, bytes = BYTES, peer = "a") => {
    const whole: FrameHeader = {
      what: "activation",
      evaluate: false,
      generation: 1,
      round: 3,
      index: 1,
      microbatch: 0,
      sequence: 0,
      ...header,
    };
    box.deliver(peer, whole, new Uint8Array(bytes).fill(whole.microbatch + 1), () => state.consumed++);
  };
  const take = async (microbatch: number) =>
    (await box.take({ what: "activation", index: 1, microbatch, sequence: 0 }))[0];
  return { box, deliver, take, state };
}

Deno.test("frames wait until they are taken, in any order, and give back their credit then", async () => {
  const { deliver, take, state } = inbox();
  const first = take(0);
  deliver({ microbatch: 1 });
  assertEquals(state.consumed, 0);
  deliver();
  assertEquals(state.consumed, 1, "somebody waited for it");
  assertEquals([await first, await take(1)], [1, 2]);
  assertEquals(state.consumed, 2);
});

Deno.test("frames of the wrong size, from the wrong peer or unknown to the plan are refused", () => {
  const { deliver, state } = inbox();
  const refused = (message: string, ...args: Parameters<typeof deliver>) =>
    assertThrows(() => deliver(...args), PlanViolationError, message);
  refused("microbatch 0 with 92 bytes: the plan says 96", {}, BYTES - 4);
  refused("microbatch 0 with 0 bytes", {}, 0);
  refused("the plan has no such transfer from it", {}, BYTES, "c");
  refused("the plan has no such transfer from it", { microbatch: 2 });
  refused("the plan has no such transfer from it", { index: 0 });
  refused("the plan has no such transfer from it", { sequence: 1 });
  refused("the plan has no such transfer from it", { what: "gradient" });
  refused("as if round 3 evaluates, but it trains", { evaluate: true });
  assertEquals(state.consumed, 0);
});

Deno.test("late frames and duplicates are ignored and counted", async () => {
  const { box, deliver, take, state } = inbox();
  deliver({ round: 2 });
  deliver();
  deliver();
  assertEquals(await take(0), 1);
  deliver();
  assertEquals([box.stale, box.duplicates, state.consumed], [1, 2, 4]);
});

Deno.test("frames of later rounds wait for their round, those that nobody took end with theirs", async () => {
  const { box, deliver, take, state } = inbox();
  deliver({ microbatch: 1 });
  deliver({ round: 4 });
  box.enter(4, false);
  assertEquals([box.stale, state.consumed], [1, 1]);
  assertEquals(await take(0), 1);
  deliver({ round: 5, evaluate: true });
  assertThrows(() => box.enter(5, false), PlanViolationError, "as if round 5 evaluates, but it trains");
});

Deno.test("the end of the generation rejects whoever waits", async () => {
  const { box, deliver, take, state } = inbox();
  const waiting = take(0);
  deliver({ microbatch: 1 });
  box.close(new GenerationOverError("over"));
  assertEquals(await waiting.catch((error) => error.name), "GenerationOverError");
  assertEquals(await take(0).catch((error) => error.name), "GenerationOverError");
  deliver();
  assertEquals(state.consumed, 2, "what arrives later is let go");
});
