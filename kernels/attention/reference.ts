/**
 * What the attention kernels compute, on plain arrays. Sums run in float64 and are rounded when they are stored; memory beyond the
 * arguments is linear in the sequence.
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

/** sum of a[i + n] * b[j + n] for n < length, in four interleaved partial sums. */
function dot(a: Float32Array, i: number, b: Float32Array, j: number, length: number): number {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  let n = 0;
  for (; n + 3 < length; n += 4) {
    s0 += a[i + n] * b[j + n];
    s1 += a[i + n + 1] * b[j + n + 1];
    s2 += a[i + n + 2] * b[j + n + 2];
    s3 += a[i + n + 3] * b[j + n + 3];
  }
  for (; n < length; n++) s0 += a[i + n] * b[j + n];
  return (s0 + s1) + (s2 + s3);
}

/** to[i + n] += factor * from[j + n] for n < length. */
function addScaled(
  to: Float64Array,
  i: number,
  factor: number,
  from: Float32Array,
  j: number,
  length: number,
): void {
  for (let n = 0; n < length; n++) to[i + n] += factor * from[j + n];
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
  let largest = -Infinity;
  for (let j = 0, key = layout.key; j < seen; j++, key += layout.stride) {
    const score = dot(query.from, query.at, keys, key, headDim) * scale;
    scores[j] = score;
    if (score > largest) largest = score;
  }
  let sum = 0;
  mixed.fill(0);
  for (let j = 0, value = layout.value; j < seen; j++, value += layout.stride) {
    const p = Math.exp(scores[j] - largest);
    sum += p;
    addScaled(mixed, 0, p, values, value, headDim);
  }
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
  for (let b = 0; b < batch; b++) {
    const first = b * seq;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / group);
      const toKey = (heads + kv) * headDim;
      const toValue = toKey + kvHeads * headDim;
      for (let i = 0; i < seq; i++) {
        const row = first + i;
        const query = row * stride + h * headDim;
        const out = (row * heads + h) * headDim;
        const sum = lse[row * heads + h];
        const mean = delta[row * heads + h];
        dq.fill(0);
        for (let j = 0, at = first * stride; j <= i; j++, at += stride) {
          const p = Math.exp(dot(qkv, query, qkv, at + toKey, headDim) * scale - sum);
          const ds = p * (dot(dout, out, qkv, at + toValue, headDim) - mean);
          addScaled(dq, 0, ds, qkv, at + toKey, headDim);
        }
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
  for (let b = 0; b < batch; b++) {
    const first = b * seq;
    for (let kv = 0; kv < kvHeads; kv++) {
      for (let j = 0; j < seq; j++) {
        const key = (first + j) * stride + (heads + kv) * headDim;
        const value = key + kvHeads * headDim;
        dk.fill(0);
        dv.fill(0);
        for (let h = kv * group; h < (kv + 1) * group; h++) {
          for (let i = j; i < seq; i++) {
            const row = first + i;
            const query = row * stride + h * headDim;
            const out = (row * heads + h) * headDim;
            const p = Math.exp(dot(qkv, query, qkv, key, headDim) * scale - lse[row * heads + h]);
            const ds = p * (dot(dout, out, qkv, value, headDim) - delta[row * heads + h]);
            addScaled(dk, 0, ds, qkv, query, headDim);
            addScaled(dv, 0, p, dout, out, headDim);
          }
        }
        for (let n = 0; n < headDim; n++) {
          dqkv[key + n] = dk[n] * scale;
          dqkv[value + n] = dv[n];
        }
      }
    }
  }
}
