/**
 * What the attention kernels compute, on plain arrays. Sums run in float64, which costs nothing here, and are rounded when they are
 * stored. Memory beyond the arguments is linear in the sequence.
 *
 * Legend: T rows, S words of a qkv row = (H + 2K) * hd, H query heads, K kv heads.
 *
 * @module
 */

/** Sequences that lie one after another. */
interface Sequences {
  readonly batch: number;
  readonly seq: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** sum of a[i + n] * b[j + n] for n < length, in order. */
function dot(a: Float32Array, i: number, b: Float32Array, j: number, length: number): number {
  let sum = 0;
  for (let n = 0; n < length; n++) sum += a[i + n] * b[j + n];
  return sum;
}

/**
 * sums[to + m] = dot of a at i with b at j + m * stride, for m < count: four sums at a time, so that each waits for itself only.
 */
function dots(
  a: Float32Array,
  i: number,
  b: Float32Array,
  j: number,
  stride: number,
  length: number,
  count: number,
  sums: Float64Array,
): void {
  let m = 0;
  for (; m + 3 < count; m += 4) {
    const j0 = j + m * stride;
    const j1 = j0 + stride;
    const j2 = j1 + stride;
    const j3 = j2 + stride;
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let n = 0; n < length; n++) {
      const value = a[i + n];
      s0 += value * b[j0 + n];
      s1 += value * b[j1 + n];
      s2 += value * b[j2 + n];
      s3 += value * b[j3 + n];
    }
    sums[m] = s0;
    sums[m + 1] = s1;
    sums[m + 2] = s2;
    sums[m + 3] = s3;
  }
  for (; m < count; m++) sums[m] = dot(a, i, b, j + m * stride, length);
}

/** to[n] += sum over m < count, in order, of factors[m] * from[j + m * stride + n], for n < length. */
function addScaled(
  to: Float64Array,
  factors: Float64Array,
  from: Float32Array,
  j: number,
  stride: number,
  length: number,
  count: number,
): void {
  let m = 0;
  for (; m + 3 < count; m += 4) {
    const j0 = j + m * stride;
    const j1 = j0 + stride;
    const j2 = j1 + stride;
    const j3 = j2 + stride;
    const f0 = factors[m], f1 = factors[m + 1], f2 = factors[m + 2], f3 = factors[m + 3];
    for (let n = 0; n < length; n++) {
      let sum = to[n];
      sum += f0 * from[j0 + n];
      sum += f1 * from[j1 + n];
      sum += f2 * from[j2 + n];
      sum += f3 * from[j3 + n];
      to[n] = sum;
    }
  }
  for (; m < count; m++) {
    const factor = factors[m];
    const at = j + m * stride;
    for (let n = 0; n < length; n++) to[n] += factor * from[at + n];
  }
}

/** One query against `seen` keys: writes the mixed values to out[to..] and returns logsumexp of the scaled scores. */
function attend(
  query: { readonly from: Float32Array; readonly at: number },
  keys: Float32Array,
  values: Float32Array,
  layout: { readonly key: number; readonly value: number; readonly stride: number },
  seen: number,
  headDim: number,
  scratch: { readonly scores: Float64Array; readonly mixed: Float64Array },
  out: Float32Array,
  to: number,
): number {
  const { scores, mixed } = scratch;
  const scale = 1 / Math.sqrt(headDim);
  dots(query.from, query.at, keys, layout.key, layout.stride, headDim, seen, scores);
  let largest = -Infinity;
  for (let j = 0; j < seen; j++) {
    scores[j] *= scale;
    if (scores[j] > largest) largest = scores[j];
  }
  let sum = 0;
  for (let j = 0; j < seen; j++) {
    scores[j] = Math.exp(scores[j] - largest);
    sum += scores[j];
  }
  mixed.fill(0);
  addScaled(mixed, scores, values, layout.value, layout.stride, headDim, seen);
  for (let n = 0; n < headDim; n++) out[to + n] = mixed[n] / sum;
  return largest + Math.log(sum);
}

/** See `attention`. */
export function attentionReference(
  { qkv, out, lse }: { readonly qkv: Float32Array; readonly out: Float32Array; readonly lse: Float32Array },
  { batch, seq, heads, kvHeads, headDim }: Sequences,
): void {
  const stride = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const scratch = { scores: new Float64Array(seq), mixed: new Float64Array(headDim) };
  for (let b = 0; b < batch; b++) {
    const first = b * seq;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / group);
      const layout = {
        key: first * stride + (heads + kv) * headDim,
        value: first * stride + (heads + kvHeads + kv) * headDim,
        stride,
      };
      for (let i = 0; i < seq; i++) {
        const row = first + i;
        const query = { from: qkv, at: row * stride + h * headDim };
        const to = (row * heads + h) * headDim;
        lse[row * heads + h] = attend(query, qkv, qkv, layout, i + 1, headDim, scratch, out, to);
      }
    }
  }
}

/** See `attentionCached`. */
export function attentionCachedReference(
  { qkv, keys, values, out }: {
    readonly qkv: Float32Array;
    readonly keys: Float32Array;
    readonly values: Float32Array;
    readonly out: Float32Array;
  },
  { rows, start, heads, kvHeads, headDim }: {
    readonly rows: number;
    readonly start: number;
    readonly heads: number;
    readonly kvHeads: number;
    readonly headDim: number;
  },
): void {
  const stride = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const scratch = { scores: new Float64Array(start + rows), mixed: new Float64Array(headDim) };
  for (let i = 0; i < rows; i++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / group) * headDim;
      const layout = { key: kv, value: kv, stride: kvHeads * headDim };
      const query = { from: qkv, at: i * stride + h * headDim };
      attend(query, keys, values, layout, start + i + 1, headDim, scratch, out, (i * heads + h) * headDim);
    }
  }
}

/** See `attentionDelta`. */
export function attentionDeltaReference(
  { out, dout, delta }: {
    readonly out: Float32Array;
    readonly dout: Float32Array;
    readonly delta: Float32Array;
  },
  { rows, heads, headDim }: { readonly rows: number; readonly heads: number; readonly headDim: number },
): void {
  for (let i = 0; i < rows * heads; i++) delta[i] = dot(out, i * headDim, dout, i * headDim, headDim);
}

/** The arrays of both backward kernels. */
interface BackwardArrays {
  readonly qkv: Float32Array;
  readonly dout: Float32Array;
  readonly lse: Float32Array;
  readonly delta: Float32Array;
  readonly dqkv: Float32Array;
}

/** See `attentionBackwardQ`. */
export function attentionBackwardQReference(
  { qkv, dout, lse, delta, dqkv }: BackwardArrays,
  { batch, seq, heads, kvHeads, headDim }: Sequences,
): void {
  const stride = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const scale = 1 / Math.sqrt(headDim);
  const dq = new Float64Array(headDim);
  const scores = new Float64Array(seq);
  const slopes = new Float64Array(seq);
  for (let b = 0; b < batch; b++) {
    const first = b * seq;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / group);
      for (let i = 0; i < seq; i++) {
        const row = first + i;
        const query = row * stride + h * headDim;
        const out = (row * heads + h) * headDim;
        const sum = lse[row * heads + h];
        const mean = delta[row * heads + h];
        const key = first * stride + (heads + kv) * headDim;
        dots(qkv, query, qkv, key, stride, headDim, i + 1, scores);
        dots(dout, out, qkv, key + kvHeads * headDim, stride, headDim, i + 1, slopes);
        for (let j = 0; j <= i; j++) slopes[j] = Math.exp(scores[j] * scale - sum) * (slopes[j] - mean);
        dq.fill(0);
        addScaled(dq, slopes, qkv, key, stride, headDim, i + 1);
        for (let n = 0; n < headDim; n++) dqkv[query + n] = dq[n] * scale;
      }
    }
  }
}

/** See `attentionBackwardKV`. */
export function attentionBackwardKVReference(
  { qkv, dout, lse, delta, dqkv }: BackwardArrays,
  { batch, seq, heads, kvHeads, headDim }: Sequences,
): void {
  const stride = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const scale = 1 / Math.sqrt(headDim);
  const dk = new Float64Array(headDim);
  const dv = new Float64Array(headDim);
  const scores = new Float64Array(seq);
  const slopes = new Float64Array(seq);
  for (let b = 0; b < batch; b++) {
    const first = b * seq;
    for (let kv = 0; kv < kvHeads; kv++) {
      for (let j = 0; j < seq; j++) {
        const key = (first + j) * stride + (heads + kv) * headDim;
        const value = key + kvHeads * headDim;
        dk.fill(0);
        dv.fill(0);
        for (let h = kv * group; h < (kv + 1) * group; h++) {
          const row = first + j;
          const query = row * stride + h * headDim;
          const out = (row * heads + h) * headDim;
          const count = seq - j;
          dots(qkv, key, qkv, query, stride, headDim, count, scores);
          dots(qkv, value, dout, out, heads * headDim, headDim, count, slopes);
          for (let i = 0; i < count; i++) {
            const at = (row + i) * heads + h;
            const p = Math.exp(scores[i] * scale - lse[at]);
            scores[i] = p;
            slopes[i] = p * (slopes[i] - delta[at]);
          }
          addScaled(dk, slopes, qkv, query, stride, headDim, count);
          addScaled(dv, scores, dout, out, heads * headDim, headDim, count);
        }
        for (let n = 0; n < headDim; n++) {
          dqkv[key + n] = dk[n] * scale;
          dqkv[value + n] = dv[n];
        }
      }
    }
  }
}
