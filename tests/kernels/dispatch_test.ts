import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../kernels/device.ts";
import {
  combine,
  combineBackward,
  dispatchCount,
  dispatchPlace,
  gatherRows,
  sumRows,
} from "../../kernels/dispatch/dispatch.ts";
import { referenceDevice } from "../../kernels/reference/device.ts";
import { randomStream } from "../../model/random.ts";
import { call, largestError, onDevices } from "./call.ts";

function normals(length: number, ...keys: (string | number)[]): Float32Array<ArrayBuffer> {
  const stream = randomStream(9, ...keys);
  return Float32Array.from({ length }, () => stream.normal());
}

/** A permutation of 0..n - 1. */
function shuffled(n: number, ...keys: (string | number)[]): Uint32Array<ArrayBuffer> {
  const stream = randomStream(9, "shuffled", ...keys);
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = stream.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Distinct experts for each token. */
function routes(tokens: number, experts: number, chosen: number): Uint32Array<ArrayBuffer> {
  const all = new Uint32Array(tokens * chosen);
  for (let t = 0; t < tokens; t++) all.set(shuffled(experts, t, chosen).subarray(0, chosen), t * chosen);
  return all;
}

/** Counts and places assignments on a device. */
async function place(device: Device, assigned: Uint32Array<ArrayBuffer>, slotOf: Uint32Array<ArrayBuffer>) {
  const values = { assignments: assigned.length, experts: slotOf.length };
  const words = (length: number) => new Uint32Array(length).fill(77);
  const { counts } = await call(device, dispatchCount, {
    experts: assigned,
    slotOf,
    counts: words(slotOf.length),
  }, values);
  const placed = await call(device, dispatchPlace, {
    experts: assigned,
    slotOf,
    counts: counts as Uint32Array<ArrayBuffer>,
    offsets: words(slotOf.length + 1),
    position: words(assigned.length),
    source: words(assigned.length),
  }, values);
  return { ...placed, counts };
}

onDevices("assignments are sorted by slot, in order inside each", async (device) => {
  const cases: [string, Uint32Array<ArrayBuffer>, number][] = [
    ["one", Uint32Array.of(0), 1],
    ["one of many", Uint32Array.of(5), 9],
    ["all to the first", new Uint32Array(1000), 8],
    ["all to the last", new Uint32Array(1001).fill(7), 8],
    ["odd numbers only", routes(131, 4, 1).map((e) => 2 * e + 1), 8],
    ["two of eight", routes(1024, 8, 2), 8],
    ["one of 33", routes(300, 33, 1), 33],
    ["three of 300", routes(300, 300, 3), 300],
    ["sixteen of 1024", routes(70, 1024, 16), 1024],
    ["more than one stride", routes(5000, 3, 1), 3],
  ];
  for (const [name, assigned, experts] of cases) {
    for (const slotOf of [Uint32Array.from({ length: experts }, (_, e) => e), shuffled(experts, name)]) {
      const order = [...assigned.keys()].sort((a, b) => slotOf[assigned[a]] - slotOf[assigned[b]] || a - b);
      const counts = new Uint32Array(experts);
      for (const e of assigned) counts[slotOf[e]]++;
      const offsets = [0];
      for (const count of counts) offsets.push(offsets.at(-1)! + count);
      const position = new Uint32Array(assigned.length);
      order.forEach((a, r) => position[a] = r);
      const answer = await place(device, assigned, slotOf);
      assertEquals([...answer.counts], [...counts], `${name}: counts`);
      assertEquals([...answer.offsets], offsets, `${name}: offsets`);
      assertEquals([...answer.source], order, `${name}: source`);
      assertEquals([...answer.position], [...position], `${name}: position`);
    }
  }
});

const SHAPES = [
  { rows: 1, width: 1, chosen: 1 },
  { rows: 1, width: 4, chosen: 2 },
  { rows: 5, width: 3, chosen: 2 },
  { rows: 67, width: 12, chosen: 1 },
  { rows: 31, width: 129, chosen: 3 },
  { rows: 130, width: 128, chosen: 2 },
  { rows: 9, width: 260, chosen: 16 },
  { rows: 3, width: 1100, chosen: 2 },
];

onDevices("rows go to the experts and come back", async (device) => {
  for (const shape of SHAPES) {
    const { rows, width, chosen } = shape;
    const label = JSON.stringify(shape);
    const experts = Math.max(5, chosen);
    const { position, source } = await place(device, routes(rows, experts, chosen), shuffled(experts));
    const words = rows * width;
    const x = normals(words, "x", label);
    const places = {
      position: position as Uint32Array<ArrayBuffer>,
      source: source as Uint32Array<ArrayBuffer>,
    };

    const gathered = await call(
      device,
      gatherRows,
      { x, source: places.source, y: new Float32Array(words * chosen) },
      shape,
    );
    for (let r = 0; r < rows * chosen; r++) {
      const token = Math.floor(source[r] / chosen);
      assertEquals(
        [...gathered.y.subarray(r * width, (r + 1) * width)],
        [...x.subarray(token * width, (token + 1) * width)],
        `${label}: row ${r}`,
      );
    }

    const rows_RD = normals(words * chosen, "rows", label);
    const weights = normals(rows * chosen, "weights", label);
    const sums = new Float64Array(words);
    const plain = new Float64Array(words);
    for (let a = 0; a < rows * chosen; a++) {
      for (let d = 0; d < width; d++) {
        const at = Math.floor(a / chosen) * width + d;
        sums[at] += weights[a] * rows_RD[position[a] * width + d];
        plain[at] += rows_RD[position[a] * width + d];
      }
    }
    const combined = await call(device, combine, {
      residual: x,
      rows: rows_RD,
      weights,
      position: places.position,
      y: new Float32Array(words),
    }, shape);
    // Rounding is relative to the terms, of which there are `chosen`.
    assert(largestError(combined.y, sums.map((sum, i) => x[i] + sum), chosen) < 1e-6, `${label}: combine`);

    const before = normals(words, "before", label);
    for (const accumulate of [0, 1]) {
      const { dx } = await call(device, sumRows, { drows: rows_RD, position: places.position, dx: before }, {
        ...shape,
        accumulate,
      });
      const expected = plain.map((sum, i) => sum + accumulate * before[i]);
      assert(largestError(dx, expected, chosen) < 1e-6, `${label}: sumRows, accumulate ${accumulate}`);
    }
  }
});

onDevices("combineBackward is the gradient of combine", async (device) => {
  for (const shape of SHAPES) {
    const { rows, width, chosen } = shape;
    const label = JSON.stringify(shape);
    const experts = Math.max(5, chosen);
    const { position } = await place(device, routes(rows, experts, chosen), shuffled(experts));
    const dy = normals(rows * width, "dy", label);
    const rows_RD = normals(rows * chosen * width, "rows", label);
    const weights = normals(rows * chosen, "weights", label);
    // The layer is linear in weights and in rows, so its derivatives are these products, exactly.
    const dweights = new Float64Array(rows * chosen);
    const drows = new Float64Array(rows * chosen * width);
    for (let a = 0; a < rows * chosen; a++) {
      for (let d = 0; d < width; d++) {
        const gradient = dy[Math.floor(a / chosen) * width + d];
        dweights[a] += gradient * rows_RD[position[a] * width + d];
        drows[position[a] * width + d] = Math.fround(weights[a] * gradient);
      }
    }
    const answer = await call(device, combineBackward, {
      dy,
      rows: rows_RD,
      weights,
      position: position as Uint32Array<ArrayBuffer>,
      drows: new Float32Array(drows.length),
      dweights: new Float32Array(dweights.length),
    }, shape);
    assertEquals([...answer.drows], [...drows], `${label}: drows`);
    const error = largestError(answer.dweights, dweights, Math.sqrt(width));
    assert(error < 1e-6, `${label}: dweights are off by ${error}`);
  }
});

onDevices("the order of slots does not change a bit of the layer's output", async (device) => {
  const shape = { rows: 77, width: 20, chosen: 3 };
  const assigned = routes(77, 6, 3);
  const weights = normals(77 * 3, "weights");
  const dy = normals(77 * 20, "dy");
  const outputs: string[] = [];
  for (const slotOf of [Uint32Array.of(0, 1, 2, 3, 4, 5), Uint32Array.of(3, 5, 0, 1, 4, 2)]) {
    const { position } = await place(device, assigned, slotOf);
    const places = position as Uint32Array<ArrayBuffer>;
    // What an expert answers follows from the assignment, not from where its row lies.
    const answers = normals(77 * 3 * 20, "answers");
    const rows = new Float32Array(answers.length);
    for (let a = 0; a < 77 * 3; a++) rows.set(answers.subarray(a * 20, a * 20 + 20), position[a] * 20);
    const { y } = await call(
      device,
      combine,
      { residual: dy, rows, weights, position: places, y: new Float32Array(77 * 20) },
      shape,
    );
    const { dweights } = await call(device, combineBackward, {
      dy,
      rows,
      weights,
      position: places,
      drows: new Float32Array(rows.length),
      dweights: new Float32Array(77 * 3),
    }, shape);
    const { dx } = await call(
      device,
      sumRows,
      { drows: rows, position: places, dx: new Float32Array(77 * 20) },
      { ...shape, accumulate: 0 },
    );
    outputs.push([...y, ...dweights, ...dx].join(" "));
  }
  assertEquals(outputs[0], outputs[1]);
});

onDevices("both variants of a kernel give the same bits", async (device) => {
  if (device.info.kind === "reference") return;
  const shape = { rows: 37, width: 24, chosen: 2 };
  const { position, source } = await place(device, routes(37, 5, 2), shuffled(5));
  const places = {
    position: position as Uint32Array<ArrayBuffer>,
    source: source as Uint32Array<ArrayBuffer>,
  };
  const x = normals(37 * 24, "x");
  const rows = normals(37 * 48, "rows");
  const weights = normals(74, "weights");
  const run = (which: 0 | 1) => {
    const only = <K extends { variants: readonly unknown[] }>(kernel: K): K => ({
      ...kernel,
      variants: [kernel.variants[which]],
    });
    const out = (length: number) => new Float32Array(length);
    return Promise.all([
      call(device, only(gatherRows), { x, source: places.source, y: out(37 * 48) }, shape),
      call(
        device,
        only(combine),
        { residual: x, rows, weights, position: places.position, y: out(37 * 24) },
        shape,
      ),
      call(device, only(sumRows), { drows: rows, position: places.position, dx: out(37 * 24) }, {
        ...shape,
        accumulate: 0,
      }),
    ]);
  };
  const [words, fours] = [await run(0), await run(1)];
  assertEquals([...words[0].y], [...fours[0].y]);
  assertEquals([...words[1].y], [...fours[1].y]);
  assertEquals([...words[2].dx], [...fours[2].dx]);
});

Deno.test("the reference names the buffer that is too small", () => {
  const device = referenceDevice();
  const view = (words: number) => device.allocate(words, "buffer");
  assertThrows(
    () =>
      device.run(gatherRows, { x: view(8), source: view(4), y: view(15) }, { rows: 2, width: 4, chosen: 2 }),
    RangeError,
    "y has 15 words and needs 16",
  );
  device.close();
});
