import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../kernels/device.ts";
import {
  adamw,
  adamwScalars,
  foldSquares,
  type Segment,
  SQUARES_CHUNK,
  squareTables,
  sumSquares,
} from "../../kernels/optimizer/optimizer.ts";
import { randomStream } from "../../model/random.ts";
import { call, largestError, onDevices } from "./call.ts";

function normals(length: number, ...keys: (string | number)[]): Float32Array<ArrayBuffer> {
  const stream = randomStream(3, ...keys);
  return Float32Array.from({ length }, () => stream.normal());
}

/** Totals and flags of all segments of `g`, by the two kernels. */
async function squares(device: Device, g: Float32Array<ArrayBuffer>, segments: readonly Segment[]) {
  const tables = squareTables(segments);
  const { partials } = await call(
    device,
    sumSquares,
    { g, chunks: tables.chunks, partials: new Float32Array(tables.partialWords) },
    { chunks: tables.chunkCount, aligned: tables.aligned },
  );
  return await call(device, foldSquares, {
    partials: partials as Float32Array<ArrayBuffer>,
    segments: tables.segments,
    totals: new Float32Array(segments.length),
    flags: new Uint32Array(segments.length).fill(5),
  }, { segments: tables.segmentCount });
}

function exactSquares(g: Float32Array, { start, length }: Segment): number {
  let sum = 0;
  for (let i = start; i < start + length; i++) sum += g[i] * g[i];
  return sum;
}

onDevices("sums of squares of many tensors in one buffer", async (device) => {
  const lengths = [1, 2, 3, 5, 63, 64, 257, 0, SQUARES_CHUNK - 1, SQUARES_CHUNK, SQUARES_CHUNK + 1, 100_003];
  for (const step of [1, 4]) {
    const segments: Segment[] = [];
    let start = 0;
    for (const length of lengths) {
      segments.push({ start, length: length * step });
      start += length * step;
    }
    const g = normals(start, "many", step);
    const { totals, flags } = await squares(device, g, segments);
    assertEquals([...flags], segments.map(() => 0));
    const error = largestError(totals, segments.map((segment) => exactSquares(g, segment)), 1e-30);
    assert(error < 5e-7, `off by ${error}`);
  }
});

onDevices("ten million elements keep six digits", async (device) => {
  const length = 10_000_000;
  const stream = randomStream(1, "large");
  const random = Float32Array.from({ length }, () => stream.uniform() - 0.5);
  const inputs = {
    random,
    // Equal terms round the same way each time, the worst case of a running sum.
    constant: new Float32Array(length).fill(0.1),
    uneven: random.map((x, i) => x * (i % 1000 === 0 ? 100 : 0.01)),
  };
  for (const [name, g] of Object.entries(inputs)) {
    const segment = { start: 0, length };
    const { totals } = await squares(device, g, [segment]);
    const error = Math.abs(totals[0] / exactSquares(g, segment) - 1);
    assert(error < 1e-6, `${name}: off by ${error}`);
  }
});

onDevices("a tensor's sum does not depend on where it lies", async (device) => {
  const values = normals(9001, "tensor");
  const sums = new Set<number>();
  for (const start of [0, 1, 64, 4095, 70_000]) {
    const g = normals(start + values.length + 10, "around");
    g.set(values, start);
    const { totals } = await squares(device, g, [{ start: 0, length: start }, {
      start,
      length: values.length,
    }]);
    sums.add(totals[1]);
  }
  assertEquals(sums.size, 1, `${[...sums]}`);
  // A length that four divides goes by fours where the start allows it.
  const four: number[] = [];
  for (const start of [0, 2]) {
    const g = new Float32Array(9010);
    g.set(values.subarray(0, 9000), start);
    four.push((await squares(device, g, [{ start, length: 9000 }])).totals[0]);
  }
  assertEquals(four[0], four[1]);
});

onDevices("values that are not finite are flagged, in their tensor alone", async (device) => {
  const length = 9 * SQUARES_CHUNK + 7;
  for (const bad of [NaN, Infinity, -Infinity]) {
    for (const at of [0, 5, 1000, SQUARES_CHUNK, 8 * SQUARES_CHUNK + 1, length - 1]) {
      const g = normals(3 * length, "flags");
      g[length + at] = bad;
      const segments = [0, 1, 2].map((s) => ({ start: s * length, length }));
      const { totals, flags } = await squares(device, g, segments);
      assertEquals([...flags], [0, 1, 0], `${bad} at ${at}`);
      assertEquals(totals[1], 0);
      assert(totals[0] > 0 && totals[2] > 0);
    }
  }
  // The mark of a lane stands on its own: a sum may be made from what is not a number, or from what overflowed.
  const { chunks, chunkCount, aligned, partialWords } = squareTables([{ start: 0, length: SQUARES_CHUNK }]);
  for (const at of [0, 100, 1023, 4095]) {
    const g = normals(SQUARES_CHUNK, "chunk");
    g[at] = -Infinity;
    const partials = new Float32Array(partialWords);
    const answer = await call(device, sumSquares, { g, chunks, partials }, { chunks: chunkCount, aligned });
    const lanes = [...answer.partials as Float32Array];
    assertEquals(lanes.findIndex((lane) => lane === -1), (at >> 2) % 64, `at ${at}`);
    assertEquals(lanes.filter((lane) => lane >= 0).length, 63, `at ${at}`);
  }
  const huge = new Float32Array(8).fill(3e38);
  const { totals, flags } = await squares(device, huge, [{ start: 0, length: 8 }, { start: 4, length: 0 }]);
  assertEquals([...flags], [1, 0], "an overflow of the squares");
  assertEquals([...totals], [0, 0]);
});

Deno.test("tables of squares refuse spans that no buffer has", () => {
  for (
    const segment of [{ start: -1, length: 4 }, { start: 0.5, length: 4 }, { start: 0, length: 2 ** 32 + 4 }]
  ) {
    assertThrows(() => squareTables([segment]), RangeError, "words");
  }
  const empty = squareTables([]);
  assertEquals([empty.chunkCount, empty.segmentCount], [0, 0]);
});

onDevices("AdamW follows its definition in double precision", async (device) => {
  for (const length of [1, 63, 64, 1021, 1024, 5000]) {
    for (const decay of [0, 0.1]) {
      let w = normals(length, "w", length);
      let m = new Float32Array(length);
      let v = new Float32Array(length);
      const exact = { w: Float64Array.from(w), m: new Float64Array(length), v: new Float64Array(length) };
      for (let step = 1; step <= 4; step++) {
        const settings = { learningRate: 1e-2, beta1: 0.9, beta2: 0.95, epsilon: 1e-6, step, clip: 0.37 };
        const g = normals(length, "g", length, step);
        const answer = await call(
          device,
          adamw,
          { w, g, m, v, scalars: adamwScalars(settings) },
          { length, decay },
        );
        [w, m, v] = [answer.w, answer.m, answer.v] as Float32Array<ArrayBuffer>[];
        for (let i = 0; i < length; i++) {
          const gradient = g[i] * settings.clip;
          exact.m[i] = 0.9 * exact.m[i] + (1 - 0.9) * gradient;
          exact.v[i] = 0.95 * exact.v[i] + (1 - 0.95) * gradient ** 2;
          const update = exact.m[i] / (1 - 0.9 ** step) / (Math.sqrt(exact.v[i] / (1 - 0.95 ** step)) + 1e-6);
          exact.w[i] -= 1e-2 * (update + decay * exact.w[i]);
        }
      }
      const label = `length ${length}, decay ${decay}`;
      assert(largestError(w, exact.w, 0.1) < 2e-6, `${label}: w is off by ${largestError(w, exact.w, 0.1)}`);
      assert(largestError(m, exact.m, 0.1) < 1e-6, `${label}: m is off by ${largestError(m, exact.m, 0.1)}`);
      assert(
        largestError(v, exact.v, 0.01) < 2e-6,
        `${label}: v is off by ${largestError(v, exact.v, 0.01)}`,
      );
    }
  }
});

onDevices("AdamW differs from its reference in the last bits at most", async (device, reference) => {
  for (const length of [4096, 4099]) {
    const arrays = () => ({
      w: normals(length, "w"),
      g: normals(length, "g"),
      m: normals(length, "m"),
      v: normals(length, "v").map((x) => x * x),
      scalars: adamwScalars({ learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 7, clip: 1 }),
    });
    const one = await call(device, adamw, arrays(), { length, decay: 0.1 });
    const two = await call(reference, adamw, arrays(), { length, decay: 0.1 });
    // Two units in the last place; cancellation in m is measured against its terms.
    const last = 2 ** -22;
    assert(largestError(one.w, two.w, 1e-2) < last, `w: ${largestError(one.w, two.w, 1e-2)}`);
    assert(largestError(one.m, two.m, 1e-1) < last, `m: ${largestError(one.m, two.m, 1e-1)}`);
    assert(largestError(one.v, two.v, 1e-6) < last, `v: ${largestError(one.v, two.v, 1e-6)}`);
  }
});

Deno.test("steps of AdamW are counted from 1", () => {
  const settings = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 0, clip: 1 };
  assertThrows(() => adamwScalars(settings), RangeError, "from 1");
});
