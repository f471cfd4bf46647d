import { assertEquals } from "@std/assert";
import { add, columnSum } from "../../kernels/mod.ts";
import { compareVariants, gpu, noise, reference, runKernel } from "./devices.ts";

const EXACT = { absolute: 0, relative: 0 };

Deno.test("add equals its reference bit for bit", async () => {
  for (const length of [1, 3, 4, 257, 1024, 65_537, 70_000]) {
    await compareVariants(add, { x: noise(length, 1), y: noise(length, 2) }, { length }, EXACT);
  }
});

Deno.test("add leaves what lies behind its length", async () => {
  for (const device of [gpu, reference]) {
    const y = new Float32Array(12).fill(1);
    const written = await runKernel(device, add, { x: new Float32Array(12).fill(2), y }, { length: 5 });
    assertEquals([...written.y], [3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1]);
  }
});

Deno.test("add folds a grid of more workgroups than one dimension holds", async () => {
  const length = 65_536 * 256 + 3;
  const x = new Float32Array(length).fill(1);
  const written = await runKernel(gpu, add, { x, y: x }, { length });
  assertEquals(written.y.findIndex((value) => value !== 2), -1);
});

Deno.test("columnSum equals its reference bit for bit, over parts of wider matrices too", async () => {
  for (
    const [rows, width, stride, start] of [
      [1, 1, 1, 0],
      [7, 5, 5, 0],
      [300, 128, 128, 0],
      [13, 132, 260, 64],
      [9, 6, 11, 3],
    ]
  ) {
    for (const accumulate of [0, 1]) {
      const x = noise(rows * stride, rows);
      await compareVariants(
        columnSum,
        { x, y: noise(width, 9) },
        { rows, width, stride, start, accumulate },
        EXACT,
      );
    }
  }
});
