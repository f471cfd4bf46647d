/** Loading: every word of every held tensor, several pieces at a time, moments where they exist. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { limits } from "../../mesh/limits.ts";
import type { HeldTensor } from "../../worker/compute.ts";
import { PlanViolationError } from "../../worker/errors.ts";
import { loadTensors } from "../../worker/loading.ts";
import { FakeCompute } from "./fake_compute.ts";

const most = limits.chunkBytes / 4;
const held: HeldTensor[] = [
  { name: "large", shape: [3, most], order: 0, copy: false },
  { name: "odd", shape: [7], order: 1, copy: false },
  { name: "tied", shape: [5, 2], order: 2, copy: true },
];

/** A fake whose tensors have the sizes of `held`. */
function roomy(): FakeCompute {
  const compute = new FakeCompute();
  for (const { name, shape } of held) {
    compute.weights.set(name, new Float32Array(shape.reduce((product, size) => product * size, 1)));
  }
  return compute;
}

/** Words numbered from `start`, at an odd place in their buffer as messages have them. */
function numbered(start: number, length: number): Uint8Array<ArrayBuffer> {
  const words = Float32Array.from({ length }, (_, i) => start + i);
  const bytes = new Uint8Array(length * 4 + 3).subarray(3);
  bytes.set(new Uint8Array(words.buffer));
  return bytes;
}

Deno.test("weights come whole, several pieces in flight, with progress", async () => {
  const compute = roomy();
  let flying = 0, most = 0, last = 0;
  const total = await loadTensors(compute, held, { moments: false }, async (_tensor, part, start, length) => {
    assertEquals(part, "weight");
    most = Math.max(most, ++flying);
    await new Promise((resolve) => setTimeout(resolve, 0));
    flying--;
    return numbered(start, length);
  }, (done, all) => {
    assert(done >= last && done <= all);
    last = done;
  });
  for (const { name } of held) {
    const words = compute.weights.get(name)!;
    assert(words.every((word, i) => word === i), name);
  }
  assertEquals([total, last, most], [4 * (3 * limits.chunkBytes / 4 + 7 + 10), total, 5]);
});

Deno.test("moments come too, but not for copies", async () => {
  const asked: string[] = [];
  await loadTensors(roomy(), held, { moments: true }, (tensor, part, start, length) => {
    if (start === 0) asked.push(`${tensor} ${part}`);
    return Promise.resolve(numbered(start, length));
  }, () => {});
  assertEquals(asked.sort(), [
    "large m",
    "large v",
    "large weight",
    "odd m",
    "odd v",
    "odd weight",
    "tied weight",
  ]);
});

Deno.test("a piece of the wrong size ends loading, and nothing more is put", async () => {
  const compute = roomy();
  await assertRejects(
    () =>
      loadTensors(compute, held, { moments: false }, async (_tensor, _part, start, length) => {
        if (length === 7) return numbered(0, 6);
        await new Promise((resolve) => setTimeout(resolve, 0));
        return numbered(start, length);
      }, () => {}),
    PlanViolationError,
    "The coordinator sent 24 bytes of odd (weight), 28 were asked for",
  );
  const puts = compute.calls.length;
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(compute.calls.length, puts);
});
