import { assert } from "@std/assert";
import {
  attention,
  attentionBackwardKV,
  attentionBackwardQ,
  attentionCached,
  attentionDelta,
  cacheAppend,
} from "../../kernels/mod.ts";
import { assertClose, compareVariants, noise, reference, runKernel } from "./devices.ts";
import { assertGradient, inner } from "./finite_difference.ts";

const TOLERANCE = { absolute: 3e-6, relative: 1e-5 };
/** Gradients are sums over a sequence. */
const SUMS = { absolute: 2e-5, relative: 2e-5 };

interface Shape {
  readonly batch: number;
  readonly seq: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const shape = (batch: number, seq: number, heads: number, kvHeads: number, headDim: number): Shape => ({
  batch,
  seq,
  heads,
  kvHeads,
  headDim,
});

/** A qkv buffer whose scores spread over several units, so that the softmax is neither flat nor a single spike. */
function inputs({ batch, seq, heads, kvHeads, headDim }: Shape) {
  const rows = batch * seq;
  return {
    qkv: noise(rows * (heads + 2 * kvHeads) * headDim, 1).map((value) => 2 * value),
    dout: noise(rows * heads * headDim, 2),
    out: new Float32Array(rows * heads * headDim),
    lse: new Float32Array(rows * heads),
    delta: new Float32Array(rows * heads),
  };
}

/** Runs the forward pass and all backward kernels on the reference device. */
async function referenceGradient(values: Shape) {
  const { qkv, dout, ...rest } = inputs(values);
  const { batch, seq, heads, headDim } = values;
  const forward = await runKernel(reference, attention, { qkv, out: rest.out, lse: rest.lse }, values);
  const out = forward.out;
  const lse = forward.lse;
  const rows = { rows: batch * seq, heads, headDim };
  const { delta } = await runKernel(reference, attentionDelta, { out, dout, delta: rest.delta }, rows);
  return { qkv, dout, out, lse, delta };
}

Deno.test("every attention kernel equals its reference", async () => {
  const shapes = [
    shape(1, 1, 1, 1, 1),
    shape(2, 3, 2, 1, 5),
    shape(3, 13, 6, 2, 6),
    shape(2, 67, 4, 2, 32),
    shape(5, 17, 3, 3, 8),
    shape(1, 131, 4, 1, 16),
    shape(1, 300, 2, 1, 12),
    shape(1, 11, 5, 1, 128),
    shape(1, 9, 1, 1, 37),
  ];
  for (const values of shapes) {
    const { qkv, dout, out, lse, delta } = await referenceGradient(values);
    const empty = { out: new Float32Array(out.length), lse: new Float32Array(lse.length) };
    await compareVariants(attention, { qkv, ...empty }, values, TOLERANCE);
    const rows = { rows: values.batch * values.seq, heads: values.heads, headDim: values.headDim };
    await compareVariants(
      attentionDelta,
      { out, dout, delta: new Float32Array(lse.length) },
      rows,
      TOLERANCE,
    );
    // What dqkv held before must survive where the kernel does not write.
    const dqkv = noise(qkv.length, 3);
    await compareVariants(attentionBackwardQ, { qkv, dout, lse, delta, dqkv }, values, SUMS);
    await compareVariants(attentionBackwardKV, { qkv, dout, lse, delta, dqkv }, values, SUMS);
  }
});

Deno.test("attention over 2048 tokens equals its reference", async () => {
  const values = shape(1, 2048, 1, 1, 8);
  const { qkv, out, lse } = inputs(values);
  await compareVariants(attention, { qkv, out, lse }, values, TOLERANCE);
});

Deno.test("attention is finite where scores differ by thousands", async () => {
  const values = shape(1, 5, 2, 1, 4);
  const { qkv, out, lse } = inputs(values);
  await compareVariants(attention, { qkv: qkv.map((value) => 60 * value), out, lse }, values, {
    absolute: 1e-3,
    relative: 1e-4,
  });
});

/** Attention as the definition says it, in float64. */
function attended(qkv: ArrayLike<number>, { batch, seq, heads, kvHeads, headDim }: Shape): Float64Array {
  const stride = (heads + 2 * kvHeads) * headDim;
  const out = new Float64Array(batch * seq * heads * headDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      for (let i = 0; i < seq; i++) {
        const weights: number[] = [];
        for (let j = 0; j <= i; j++) {
          let score = 0;
          for (let n = 0; n < headDim; n++) {
            score += qkv[(b * seq + i) * stride + h * headDim + n] *
              qkv[(b * seq + j) * stride + (heads + kv) * headDim + n];
          }
          weights.push(Math.exp(score / Math.sqrt(headDim)));
        }
        const sum = weights.reduce((a, w) => a + w, 0);
        weights.forEach((weight, j) => {
          for (let n = 0; n < headDim; n++) {
            out[((b * seq + i) * heads + h) * headDim + n] += weight / sum *
              qkv[(b * seq + j) * stride + (heads + kvHeads + kv) * headDim + n];
          }
        });
      }
    }
  }
  return out;
}

Deno.test("the references of attention are its definition and its derivative", async () => {
  for (const values of [shape(1, 1, 1, 1, 2), shape(2, 5, 4, 2, 3), shape(1, 7, 3, 1, 4)]) {
    const { qkv, dout, out, lse, delta } = await referenceGradient(values);
    assertClose(out, attended(qkv, values), { absolute: 1e-6, relative: 1e-6 }, "out");
    const arrays = { qkv, dout, lse, delta };
    const unset = new Float32Array(qkv.length).fill(NaN);
    const queries = (await runKernel(reference, attentionBackwardQ, { ...arrays, dqkv: unset }, values)).dqkv;
    const rest = (await runKernel(reference, attentionBackwardKV, { ...arrays, dqkv: unset }, values)).dqkv;
    // Each kernel writes its own part, and together they write everything.
    const dqkv = queries.map((value, i) => {
      assert(isNaN(value) !== isNaN(rest[i]), `dqkv[${i}] is written by both kernels or by none`);
      return isNaN(value) ? rest[i] : value;
    });
    assertGradient(dqkv, (at) => inner(attended(at, values), dout), qkv, "dqkv");
  }
});

Deno.test("attention over a cache equals its reference, whatever lies behind the last row", async () => {
  for (
    const [rows, start, heads, kvHeads, headDim] of [
      [1, 0, 1, 1, 1],
      [1, 12, 4, 2, 8],
      [5, 0, 6, 2, 6],
      [13, 29, 4, 1, 32],
      [1, 300, 2, 2, 64],
      [2, 3, 3, 1, 13],
    ]
  ) {
    const values = { rows, start, heads, kvHeads, headDim };
    const qkv = noise(rows * (heads + 2 * kvHeads) * headDim, 1);
    const width = kvHeads * headDim;
    const cached = (start + rows + 3) * width;
    const keys = noise(cached, 2);
    const values_ = noise(cached, 3);
    await compareVariants(cacheAppend, { qkv, keys, values: values_ }, values, { absolute: 0, relative: 0 });
    keys.fill(NaN, (start + rows) * width);
    values_.fill(NaN, (start + rows) * width);
    const arrays = { qkv, keys, values: values_, out: new Float32Array(rows * heads * headDim) };
    await compareVariants(attentionCached, arrays, values, TOLERANCE);
  }
});

Deno.test("appending rows and attending over the cache equals attention over the whole sequence", async () => {
  const values = shape(1, 9, 4, 2, 8);
  const { qkv, out, lse } = inputs(values);
  const whole = (await runKernel(reference, attention, { qkv, out, lse }, values)).out;
  const { heads, kvHeads, headDim } = values;
  const stride = (heads + 2 * kvHeads) * headDim;
  let cache = {
    keys: new Float32Array(9 * kvHeads * headDim),
    values: new Float32Array(9 * kvHeads * headDim),
  };
  for (const [start, rows] of [[0, 4], [4, 1], [5, 3], [8, 1]]) {
    const call = { rows, start, heads, kvHeads, headDim };
    const part = qkv.slice(start * stride, (start + rows) * stride);
    const appended = await runKernel(reference, cacheAppend, { qkv: part, ...cache }, call);
    cache = {
      keys: appended.keys as Float32Array<ArrayBuffer>,
      values: appended.values as Float32Array<ArrayBuffer>,
    };
    const empty = new Float32Array(rows * heads * headDim);
    const seen = (await runKernel(reference, attentionCached, { qkv: part, ...cache, out: empty }, call)).out;
    const width = heads * headDim;
    assertClose(seen, whole.subarray(start * width, (start + rows) * width), TOLERANCE, `rows from ${start}`);
  }
});
