/** The order of samples: every window once an epoch, the same for everyone, another for each epoch and seed. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { permutation, sampleWindow, windowAt, windowCount } from "../../model/text/data_order.ts";
import { TextError } from "../../model/errors.ts";

Deno.test("a permutation takes every number once", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 700 }), fc.integer(), fc.nat(9), (size, seed, epoch) => {
      const order = permutation(size, seed, epoch);
      assertEquals(new Set(Array.from({ length: size }, (_, i) => order(i))).size, size);
    }),
    { seed: 1 },
  );
  const large = permutation(2 ** 32, 1, 0);
  for (const index of [0, 1, 2 ** 32 - 1]) assert(large(index) >= 0 && large(index) < 2 ** 32);
  assertThrows(() => permutation(0, 1, 0), RangeError);
  assertThrows(() => permutation(5, 1, 0)(5), RangeError);
});

Deno.test("permutations look random: means, neighbours, and epochs differ", () => {
  const size = 5000, a = permutation(size, 7, 0), b = permutation(size, 7, 1), c = permutation(size, 8, 0);
  let head = 0, neighbours = 0, sameB = 0, sameC = 0;
  for (let i = 0; i < size; i++) {
    if (i < size / 2) head += a(i);
    if (i > 0 && Math.abs(a(i) - a(i - 1)) === 1) neighbours++;
    if (a(i) === b(i)) sameB++;
    if (a(i) === c(i)) sameC++;
  }
  assert(Math.abs(head / (size / 2) / size - 0.5) < 0.02, `mean of the first half ${head / (size / 2)}`);
  for (const count of [neighbours, sameB, sameC]) {
    assert(count < 12, `${count} coincidences, about 1 or 2 expected`);
  }
});

Deno.test("samples of all steps walk through epochs without a gap, and any step can be asked for alone", () => {
  const order = { seed: 3, windows: 10, perStep: 4 };
  const drawn: number[][] = [[], [], []];
  for (let step = 0; step < 7; step++) {
    for (let sample = 0; sample < 4; sample++) {
      const { epoch, window } = sampleWindow(order, step, sample);
      drawn[epoch].push(window);
    }
  }
  assertEquals(drawn.map((windows) => windows.length), [10, 10, 8]);
  for (const windows of drawn) assertEquals(new Set(windows).size, windows.length);
  assert(drawn[0].join() !== drawn[1].join());
  assertEquals(sampleWindow(order, 6, 3).window, drawn[2][7]);
  assertThrows(() => sampleWindow(order, 0, 4), RangeError);
});

Deno.test("the order does not change between versions, so that runs can be resumed", () => {
  const order = { seed: 1, windows: 12, perStep: 12 };
  assertEquals(Array.from({ length: 12 }, (_, i) => sampleWindow(order, 0, i).window), [
    7,
    5,
    3,
    9,
    4,
    10,
    6,
    2,
    0,
    11,
    8,
    1,
  ]);
});

Deno.test("windows share one id, so that every id but the first is predicted once", () => {
  const tokens = Uint32Array.from({ length: 11 }, (_, i) => i);
  assertEquals(windowCount(11, 5), 2);
  assertEquals([0, 1].map((window) => [...windowAt(tokens, 5, window)]), [[0, 1, 2, 3, 4, 5], [
    5,
    6,
    7,
    8,
    9,
    10,
  ]]);
  assertEquals(windowCount(10, 5), 1);
  assertThrows(() => windowAt(tokens, 5, 2), RangeError);
  assertThrows(() => windowCount(5, 5), TextError, "needs 6");
});
