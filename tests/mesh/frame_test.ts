import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { FrameError } from "../../mesh/errors.ts";
import { decodeFrame, encodeFrame, FRAME_BYTES, type FrameHeader, WHATS } from "../../mesh/tensors/frame.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

const header: FrameHeader = {
  what: "activation",
  evaluate: false,
  generation: 0xffff_ffff,
  round: 7,
  index: 3,
  microbatch: 2,
  sequence: 9,
};

Deno.test("every kind of frame header survives", () => {
  for (const what of WHATS) {
    for (const evaluate of [false, true]) {
      const bytes = encodeFrame({ ...header, what, evaluate }, 123);
      assertEquals(bytes.length, FRAME_BYTES);
      const back = decodeFrame(bytes);
      assertEquals(back.payloadBytes, 123);
      assertEquals({ ...back.header }, { ...header, ...back.header, what, evaluate });
    }
  }
});

Deno.test("fields that are no u32 are refused by name", () => {
  assertThrows(() => encodeFrame({ ...header, round: -1 }, 0), FrameError, "round -1");
  assertThrows(() => encodeFrame({ ...header, index: 1.5 }, 0), FrameError, "index 1.5");
  assertThrows(() => encodeFrame(header, 2 ** 31), FrameError, "bytes");
  assertThrows(() => encodeFrame({ ...header, what: "rumour" as "activation" }, 0), FrameError, "rumour");
});

Deno.test("100,000 damaged headers: refused, or read as one that encodes to the same bytes", () => {
  const chance = new VirtualClock(11), good = encodeFrame(header, 4_096);
  let refused = 0;
  for (let i = 0; i < 100_000; i++) {
    let bytes = good.slice();
    for (let n = 1 + Math.floor(chance.uniform() * 3); n > 0; n--) {
      bytes[Math.floor(chance.uniform() * bytes.length)] = Math.floor(chance.uniform() * 256);
    }
    if (chance.uniform() < 0.1) bytes = bytes.slice(0, Math.floor(chance.uniform() * bytes.length));
    try {
      const back = decodeFrame(bytes);
      assertEquals(encodeFrame(back.header, back.payloadBytes).toString(), bytes.toString());
    } catch (error) {
      assertInstanceOf(error, FrameError);
      refused++;
    }
  }
  assert(refused > 30_000 && refused < 90_000, `${refused} refused`);
});
