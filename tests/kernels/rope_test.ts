import { assertThrows } from "@std/assert";
import { rope, ropeTable } from "../../kernels/mod.ts";
import { assertClose, compareVariants, noise, reference, runKernel } from "./devices.ts";
import { inner } from "./finite_difference.ts";

const TOLERANCE = { absolute: 1e-6, relative: 1e-6 };
const THETA = 10_000;

Deno.test("rope equals its reference", async () => {
  const shapes = [
    { rows: 1, seq: 1, start: 0, heads: 1, headDim: 2, stride: 2 },
    { rows: 14, seq: 7, start: 0, heads: 3, headDim: 6, stride: 30 },
    { rows: 5, seq: 5, start: 11, heads: 2, headDim: 12, stride: 31 },
    { rows: 300, seq: 150, start: 0, heads: 6, headDim: 32, stride: 256 },
    { rows: 3, seq: 3, start: 299, heads: 1, headDim: 128, stride: 384 },
  ];
  for (const shape of shapes) {
    const table = ropeTable(shape.start + shape.seq, shape.headDim, THETA);
    for (const inverse of [0, 1]) {
      const x = noise(shape.rows * shape.stride, 1);
      await compareVariants(rope, { x, table }, { ...shape, inverse }, TOLERANCE);
    }
  }
});

Deno.test("rope turns pairs (i, i + headDim / 2) by position * theta^(-2 i / headDim)", async () => {
  const values = { rows: 4, seq: 4, start: 3, heads: 1, headDim: 8, stride: 8, inverse: 0 };
  const x = noise(32, 1);
  const { x: turned } = await runKernel(reference, rope, { x, table: ropeTable(7, 8, THETA) }, values);
  const expected = new Float64Array(32);
  for (let t = 0; t < 4; t++) {
    for (let i = 0; i < 4; i++) {
      const angle = (3 + t) * THETA ** (-2 * i / 8);
      const [a, b] = [x[t * 8 + i], x[t * 8 + 4 + i]];
      expected[t * 8 + i] = a * Math.cos(angle) - b * Math.sin(angle);
      expected[t * 8 + 4 + i] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  assertClose(turned, expected, TOLERANCE, "turned");
});

Deno.test("rope backwards is the transpose: <rope(x), dy> = <x, inverse(dy)>, and undoes rope", async () => {
  const values = { rows: 6, seq: 3, start: 0, heads: 2, headDim: 6, stride: 12 };
  const table = ropeTable(3, 6, THETA);
  const x = noise(72, 1);
  const dy = noise(72, 2);
  const forth = (await runKernel(reference, rope, { x, table }, { ...values, inverse: 0 })).x;
  const back = (await runKernel(reference, rope, { x: dy, table }, { ...values, inverse: 1 })).x;
  assertClose([inner(forth, dy)], [inner(x, back)], TOLERANCE, "product");
  const same = (await runKernel(reference, rope, { x: forth, table }, { ...values, inverse: 1 })).x;
  assertClose(same, x, TOLERANCE, "x");
});

Deno.test("ropeTable refuses heads that do not consist of pairs", () => {
  assertThrows(() => ropeTable(4, 5, THETA), RangeError, "even");
});
