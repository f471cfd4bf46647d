/** bf16: rounding, packed rows, and kernels that write them. */
import { assert, assertEquals } from "@std/assert";
import {
  gatherRowsPacked,
  packedWidth,
  packInto,
  packRows,
  roundToBf16,
  swiglu,
  swigluBackward,
  swigluBackwardPacked,
  swigluPacked,
  unpackRows,
} from "../../kernels/mod.ts";
import { compareVariants, gpu, noise, reference, runKernel } from "./devices.ts";

const exact = { absolute: 0, relative: 0 };

function bits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}

/** Bits that rounding treats in different ways: ties to both sides, carries, zeros, infinities, not-a-numbers. */
const SPECIAL = Uint32Array.of(
  0x3f808000, // halfway above an even number: down
  0x3f818000, // halfway above an odd number: up
  0x3f808001,
  0x3f807fff,
  0x3fffffff, // carries into the exponent
  0x7f7fffff, // the largest f32 becomes infinity
  0x7f800000,
  0xff800000,
  0x7fffffff, // not a number; adding would carry into the sign
  0x7f800001,
  0xffc12345,
  0x00000000,
  0x80000000,
  0x00ffffff,
);

Deno.test("Rounding is to the nearest bf16, of two equally near the even one; what is no number stays none", () => {
  const rounded = roundToBf16(new Float32Array(SPECIAL.buffer));
  const found = [...new Uint32Array(rounded.buffer)];
  assertEquals(found.map((word) => word.toString(16)), [
    "3f800000",
    "3f820000",
    "3f810000",
    "3f800000",
    "40000000",
    "7f800000",
    "7f800000",
    "ff800000",
    "7fff0000",
    "7fc00000",
    "ffc10000",
    "0",
    "80000000",
    "1000000",
  ]);
  // No bf16 number lies nearer than the chosen one.
  for (const value of noise(1000, 3)) {
    const [near] = roundToBf16(Float32Array.of(value));
    const below = new Float32Array(Uint32Array.of(bits(value) & 0xffff0000).buffer)[0];
    const above = new Float32Array(Uint32Array.of((bits(value) & 0xffff0000) + 0x10000).buffer)[0];
    assert(Math.abs(near - value) <= Math.min(Math.abs(below - value), Math.abs(above - value)));
  }
});

Deno.test("Packing and unpacking keep every bf16 number in its place, at odd widths too", () => {
  for (const [rows, width] of [[1, 1], [3, 5], [4, 8], [2, 7]]) {
    const values = roundToBf16(noise(rows * width, 7));
    const words = new Uint32Array(rows * packedWidth(width));
    packInto(words, values, rows, width);
    assertEquals(unpackRows(words, rows, width), values);
  }
});

Deno.test("Every program packs the same bits as the reference", async () => {
  for (const [rows, width] of [[1, 1], [3, 5], [7, 8], [5, 130], [33, 64], [1, 4104]]) {
    const x = noise(rows * width, rows + width);
    new Uint32Array(x.buffer).set(SPECIAL.subarray(0, Math.min(x.length, SPECIAL.length)));
    const arrays = { x, y: new Uint32Array(rows * packedWidth(width)) };
    await compareVariants(packRows, arrays, { rows, width }, exact);
  }
});

Deno.test("swiglu written packed is what swiglu rounds to, on the rows of the given groups only", async () => {
  const shapes: [rows: number, width: number, offsets: number[], first: number, groups: number][] = [
    [1, 1, [0, 1], 0, 1],
    [7, 5, [0, 7], 0, 1],
    [9, 12, [0, 2, 2, 6, 9], 1, 2],
    [6, 8, [3, 3, 3], 0, 2],
    [129, 40, [0, 129], 0, 1],
  ];
  for (const [rows, width, offsets, first, groups] of shapes) {
    const values = { rows, width, first, groups }, words = packedWidth(width);
    const gu = noise(rows * 2 * width, 1).map((value, i) => i % (2 * width) < width ? 20 * value : value);
    const dy = noise(rows * width, 3), spans = Uint32Array.from(offsets);
    for (const device of [gpu, reference]) {
      const plain = await runKernel(
        device,
        swiglu,
        { gu, offsets: spans, y: new Float32Array(rows * width) },
        values,
      );
      const old = new Float32Array(2 * rows * width);
      const back = await runKernel(device, swigluBackward, { gu, dy, offsets: spans, dgu: old }, values);
      for (const variant of device === gpu ? ["words", "eights"] : [undefined]) {
        if (variant === "eights" && width % 8 !== 0) continue;
        const what = `${variant} ${JSON.stringify(values)}`;
        const forward = { gu, offsets: spans, y: new Uint32Array(rows * words) };
        const { y } = await runKernel(device, swigluPacked, forward, values, variant);
        const expected = new Uint32Array(rows * words);
        packInto(expected, plain.y as Float32Array, rows, width);
        assertEquals(y, expected, `swigluPacked ${what}`);
        const backward = { gu, dy, offsets: spans, dgu: new Uint32Array(rows * width) };
        const { dgu } = await runKernel(device, swigluBackwardPacked, backward, values, variant);
        const gradients = new Uint32Array(rows * width);
        packInto(gradients, back.dgu as Float32Array, rows, 2 * width);
        assertEquals(dgu, gradients, `swigluBackwardPacked ${what}`);
      }
    }
  }
});

Deno.test("Packed rows are gathered word for word", async () => {
  for (const [tokens, width, chosen] of [[5, 7, 2], [9, 16, 3], [3, 1, 1], [20, 264, 2]]) {
    const words = packedWidth(width), rows = tokens * chosen;
    const x = new Uint32Array(noise(tokens * words, 5).buffer);
    const source = Uint32Array.from({ length: rows }, (_, r) => (r * 7 + 3) % rows);
    const arrays = { x, source, y: new Uint32Array(rows * words) };
    await compareVariants(gatherRowsPacked, arrays, { rows: tokens, width, chosen }, exact);
  }
});
