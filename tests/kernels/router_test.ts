import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../kernels/device.ts";
import { routerBackward, routerStats, routerTopK } from "../../kernels/router/router.ts";
import { randomStream } from "../../model/random.ts";
import { call, largestError, onDevices } from "./call.ts";

interface Shape {
  readonly rows: number;
  readonly experts: number;
  readonly chosen: number;
}

const SHAPES: readonly Shape[] = [
  { rows: 1, experts: 1, chosen: 1 },
  { rows: 1, experts: 8, chosen: 2 },
  { rows: 7, experts: 3, chosen: 2 },
  { rows: 65, experts: 16, chosen: 16 },
  { rows: 200, experts: 5, chosen: 1 },
  { rows: 131, experts: 64, chosen: 4 },
  { rows: 129, experts: 70, chosen: 3 },
  { rows: 9, experts: 1024, chosen: 16 },
];

function normals(length: number, ...keys: (string | number)[]): Float32Array<ArrayBuffer> {
  const stream = randomStream(5, ...keys);
  return Float32Array.from({ length }, () => 2 * stream.normal());
}

/** Softmax in double precision. */
function softmax(logits: number[]): number[] {
  const largest = Math.max(...logits);
  const exps = logits.map((x) => Math.exp(x - largest));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / sum);
}

function logSumExp(logits: number[]): number {
  const largest = Math.max(...logits);
  return largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
}

const row = (values: ArrayLike<number>, t: number, width: number): number[] =>
  Array.from({ length: width }, (_, e) => values[t * width + e]);

/** The definition, by sorting. */
function choose(logits: ArrayLike<number>, { rows, experts, chosen }: Shape) {
  const choices: number[] = [];
  const weights: number[] = [];
  for (let t = 0; t < rows; t++) {
    const l = row(logits, t, experts);
    const order = l.map((_, e) => e).sort((a, b) => l[b] - l[a] || a - b).slice(0, chosen);
    choices.push(...order);
    weights.push(...softmax(order.map((e) => l[e])));
  }
  return { choices, weights };
}

function topK(device: Device, logits: Float32Array<ArrayBuffer>, shape: Shape) {
  const length = shape.rows * shape.chosen;
  return call(
    device,
    routerTopK,
    { logits, weights: new Float32Array(length), experts: new Uint32Array(length) },
    shape,
  );
}

onDevices("routerTopK picks the largest logits, ties by index", async (device) => {
  for (const shape of SHAPES) {
    const label = JSON.stringify(shape);
    const smooth = normals(shape.rows * shape.experts, "logits", label);
    for (const logits of [smooth, smooth.map((x) => Math.round(x)), smooth.map(() => -3)]) {
      const { choices, weights } = choose(logits, shape);
      const answer = await topK(device, logits, shape);
      assertEquals([...answer.experts], choices, label);
      const error = largestError(answer.weights, weights, 1e-3);
      assert(error < 2e-6, `${label}: weights are off by ${error}`);
    }
  }
});

onDevices("routerTopK chooses valid and distinct experts whatever the logits", async (device) => {
  const shape = { rows: 6, experts: 5, chosen: 3 };
  const logits = normals(30, "odd");
  logits.fill(NaN, 0, 5);
  logits.fill(-Infinity, 5, 10);
  logits[12] = NaN;
  logits[15] = Infinity;
  logits[23] = -Infinity;
  const { experts } = await topK(device, logits, shape);
  for (let t = 0; t < shape.rows; t++) {
    const choices = row(experts, t, 3);
    assert(choices.every((e) => e < 5), `row ${t}: ${choices}`);
    assertEquals(new Set(choices).size, 3, `row ${t}: ${choices}`);
  }
  assertEquals(row(experts, 1, 3), [0, 1, 2]);
});

onDevices("routerStats gives shares, mean probabilities and the mean square of logsumexp", async (device) => {
  for (const shape of SHAPES) {
    const { rows, experts, chosen } = shape;
    const label = JSON.stringify(shape);
    const logits = normals(rows * experts, "stats", label);
    const { choices } = choose(logits, shape);
    const expected = new Float64Array(2 * experts + 1);
    for (const e of choices) expected[e] += 1 / (rows * chosen);
    for (let t = 0; t < rows; t++) {
      const l = row(logits, t, experts);
      softmax(l).forEach((p, e) => expected[experts + e] += p / rows);
      expected[2 * experts] += logSumExp(l) ** 2 / rows;
    }
    const { stats } = await call(device, routerStats, {
      logits,
      experts: Uint32Array.from(choices),
      stats: new Float32Array(2 * experts + 1),
    }, shape);
    const error = largestError(stats, expected, 1e-4);
    assert(error < 2e-6, `${label}: off by ${error}`);
  }
});

onDevices(
  "routerBackward agrees with finite differences of the losses in double precision",
  async (device) => {
    const balance = 0.7;
    const z = 0.3;
    for (
      const shape of [
        { rows: 1, experts: 1, chosen: 1 },
        { rows: 7, experts: 3, chosen: 2 },
        { rows: 67, experts: 8, chosen: 2 },
        { rows: 5, experts: 16, chosen: 16 },
        { rows: 3, experts: 70, chosen: 1 },
      ]
    ) {
      const { rows, experts, chosen } = shape;
      const label = JSON.stringify(shape);
      const logits = normals(rows * experts, "backward", label);
      const dweights = normals(rows * chosen, "dweights", label);
      const { choices } = choose(logits, shape);
      const shares = new Float64Array(experts);
      for (const e of choices) shares[e] += 1 / (rows * chosen);
      // The loss of one token; tokens do not meet but through the shares, which carry no gradient.
      const loss = (t: number, l: number[]) => {
        const mine = row(choices, t, chosen);
        const weights = softmax(mine.map((e) => l[e]));
        const chosenPart = weights.reduce((sum, w, rank) => sum + w * dweights[t * chosen + rank], 0);
        const balancePart = experts * softmax(l).reduce((sum, p, e) => sum + p * shares[e], 0) / rows;
        return chosenPart + balance * balancePart + z * logSumExp(l) ** 2 / rows;
      };
      const step = 1e-5;
      const expected: number[] = [];
      for (let t = 0; t < rows; t++) {
        const l = row(logits, t, experts);
        for (let e = 0; e < experts; e++) {
          const up = loss(t, l.with(e, l[e] + step));
          const down = loss(t, l.with(e, l[e] - step));
          expected.push((up - down) / (2 * step));
        }
      }
      const { weights } = choose(logits, shape);
      const { dlogits } = await call(device, routerBackward, {
        logits,
        experts: Uint32Array.from(choices),
        weights: Float32Array.from(weights),
        dweights,
        stats: Float32Array.from([...shares, ...new Float32Array(experts + 1)]),
        dlogits: new Float32Array(rows * experts).fill(9),
      }, { ...shape, balance, z });
      const error = largestError(dlogits, expected, 0.1);
      assert(error < 1e-5, `${label}: off by ${error}`);
    }
  },
);

onDevices("routerBackward on one device equals the reference on every shape", async (device, reference) => {
  for (const shape of SHAPES) {
    const { rows, experts, chosen } = shape;
    const label = JSON.stringify(shape);
    const logits = normals(rows * experts, "both", label);
    const { choices, weights } = choose(logits, shape);
    const arrays = {
      logits,
      experts: Uint32Array.from(choices),
      weights: Float32Array.from(weights),
      dweights: normals(rows * chosen, "dweights", label),
      stats: normals(2 * experts + 1, "loads", label),
      dlogits: new Float32Array(rows * experts),
    };
    const values = { ...shape, balance: 0.01, z: 0.001 };
    const one = await call(device, routerBackward, arrays, values);
    const two = await call(reference, routerBackward, arrays, values);
    const error = largestError(one.dlogits, two.dlogits, 1e-2);
    assert(error < 1e-5, `${label}: off by ${error}`);
  }
});

onDevices("numbers of experts that the program cannot hold are refused", (device) => {
  const views = () => {
    const logits = device.allocate(2000, "logits");
    return { logits, weights: device.allocate(64, "weights"), experts: device.allocate(64, "experts") };
  };
  for (const [experts, chosen] of [[8, 0], [8, 9], [32, 17], [1025, 2], [0, 1]]) {
    assertThrows(() => device.run(routerTopK, views(), { rows: 1, experts, chosen }), RangeError, "experts");
  }
  return Promise.resolve();
});
