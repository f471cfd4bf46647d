import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Block, philox, randomStream } from "../../model/random.ts";

Deno.test("philox gives the published answers of Philox4x32-10", () => {
  const hex = (block: Block) => block.map((word) => word.toString(16).padStart(8, "0")).join(" ");
  const ones = 0xffffffff;
  assertEquals(hex(philox([0, 0, 0, 0], 0, 0)), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  assertEquals(hex(philox([ones, ones, ones, ones], ones, ones)), "408f276d 41c83b0e a20bc7c6 6d5451fd");
  assertEquals(
    hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], 0xa4093822, 0x299f31d0)),
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
});

Deno.test("a stream is a pure function of seed and keys, and every key matters", () => {
  const draw = (seed: number, ...keys: (number | string)[]) => {
    const stream = randomStream(seed, ...keys);
    return [stream.uniform(), stream.normal(), stream.integer(1000), stream.normal()].join(" ");
  };
  assertEquals(draw(1, "init", 3), draw(1, "init", 3));
  const variants = [
    draw(1, "init", 3),
    draw(2, "init", 3),
    draw(1, "init", 4),
    draw(1, 3, "init"),
    draw(1, "init"),
    draw(1, "init", "3"),
    draw(1, "init3"),
    draw(1, "ini", "t", 3),
    draw(1, "init\0", 3),
    draw(1, "a name of more than eight bytes"),
    draw(1, "a name of more than eight bytez"),
    draw(2 ** 40, "init", 3),
    draw(1.5, "init", 3),
  ];
  assertEquals(new Set(variants).size, variants.length);
});

Deno.test("uniform, normal and integer have the moments that they should", () => {
  const stream = randomStream(11, "moments");
  const n = 200_000;
  let [mean, square, normalMean, normalSquare, fourth] = [0, 0, 0, 0, 0];
  const counts = new Array(7).fill(0);
  for (let i = 0; i < n; i++) {
    const u = stream.uniform();
    assert(u >= 0 && u < 1);
    mean += u / n;
    square += u * u / n;
    const x = stream.normal();
    normalMean += x / n;
    normalSquare += x * x / n;
    fourth += x ** 4 / n;
    counts[stream.integer(7)]++;
  }
  assert(Math.abs(mean - 1 / 2) < 0.003, `mean ${mean}`);
  assert(Math.abs(square - 1 / 3) < 0.003, `second moment ${square}`);
  assert(Math.abs(normalMean) < 0.01, `mean ${normalMean}`);
  assert(Math.abs(normalSquare - 1) < 0.015, `variance ${normalSquare}`);
  assert(Math.abs(fourth - 3) < 0.15, `fourth moment ${fourth}`);
  for (const count of counts) assert(Math.abs(count / n - 1 / 7) < 0.004, `${counts}`);
});

Deno.test("numbers and counts that make no sense are refused", () => {
  const stream = randomStream(0);
  for (const n of [0, -1, 1.5, 2 ** 32 + 1, NaN]) assertThrows(() => stream.integer(n), RangeError);
  assertEquals(stream.integer(1), 0);
  assert(stream.integer(2 ** 32) >= 0);
  assertThrows(() => randomStream(NaN), RangeError, "NaN");
});
