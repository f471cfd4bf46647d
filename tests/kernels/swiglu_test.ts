import { assertEquals } from "@std/assert";
import { swiglu, swigluBackward } from "../../kernels/mod.ts";
import { compareVariants, gpu, noise, reference, runKernel } from "./devices.ts";
import { assertGradient, inner } from "./finite_difference.ts";

const TOLERANCE = { absolute: 2e-6, relative: 4e-6 };

/** Gates between -20 and 20, so that both tails of the sigmoid occur. */
function gatesAndUps(rows: number, width: number): Float32Array<ArrayBuffer> {
  return noise(rows * 2 * width, 1).map((value, i) => i % (2 * width) < width ? 20 * value : value);
}

Deno.test("swiglu and its backward equal their references, on the rows of the given groups only", async () => {
  const shapes: [rows: number, width: number, offsets: number[], first: number, groups: number][] = [
    [1, 1, [0, 1], 0, 1],
    [7, 5, [0, 7], 0, 1],
    [9, 12, [0, 2, 2, 6, 9], 1, 2],
    [6, 8, [3, 3, 3], 0, 2],
    [129, 36, [0, 129], 0, 1],
    [300, 384, [0, 17, 201, 300], 1, 2],
  ];
  for (const [rows, width, offsets, first, groups] of shapes) {
    const values = { rows, width, first, groups };
    const gu = gatesAndUps(rows, width);
    const words = Uint32Array.from(offsets);
    await compareVariants(swiglu, { gu, offsets: words, y: noise(rows * width, 2) }, values, TOLERANCE);
    const dy = noise(rows * width, 3);
    const dgu = noise(rows * 2 * width, 4);
    const tolerance = { absolute: 2e-5, relative: 4e-6 };
    await compareVariants(swigluBackward, { gu, dy, offsets: words, dgu }, values, tolerance);
  }
});

Deno.test("swiglu is finite at gates beyond the exponential's range", async () => {
  for (const device of [gpu, reference]) {
    const gu = Float32Array.of(-200, 200, -90, 90, 1, 1, 1, 1);
    const arrays = { gu, offsets: Uint32Array.of(0, 1), y: new Float32Array(4) };
    const { y } = await runKernel(device, swiglu, arrays, { rows: 1, width: 4, first: 0, groups: 1 });
    assertEquals([...y].map((value) => Math.round(value)), [-0, 200, -0, 90]);
  }
});

Deno.test("the backward reference of swiglu is the derivative", async () => {
  const values = { rows: 3, width: 5, first: 0, groups: 1 };
  const offsets = Uint32Array.of(0, 3);
  const gu = noise(30, 1).map((value) => 4 * value);
  const dy = noise(15, 2);
  const { dgu } = await runKernel(
    reference,
    swigluBackward,
    { gu, dy, offsets, dgu: new Float32Array(30) },
    values,
  );
  const loss = (at: Float64Array) => {
    const y = new Float64Array(15);
    for (let r = 0; r < 3; r++) {
      for (let c = 0; c < 5; c++) {
        const gate = at[r * 10 + c];
        y[r * 5 + c] = gate / (1 + Math.exp(-gate)) * at[r * 10 + 5 + c];
      }
    }
    return inner(y, dy);
  };
  assertGradient(dgu, loss, gu, "dgu");
});
