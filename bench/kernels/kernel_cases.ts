/**
 * The calls that the kernel bench times: those of a step of a mixture of experts with 8 sequences of 128 tokens.
 *
 * @module
 */
import * as k from "../../kernels/mod.ts";

/** A call: for each binding a number of f32 words, or u32 words themselves. */
export interface KernelCase {
  readonly kernel: k.Kernel;
  readonly shape: string;
  readonly values: Readonly<Record<string, number>>;
  readonly words: Readonly<Record<string, number | Uint32Array<ArrayBuffer>>>;
}

// T tokens, D hidden, F ffn width, H and K query and key heads, E experts of which C are chosen, V vocabulary.
const B = 8, S = 128, T = B * S, D = 128, F = 384, H = 4, K = 2, HD = 32, E = 8, C = 2, R = T * C, V = 512;
const QKV = (H + 2 * K) * HD;

function words(length: number, value: (i: number) => number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length }, (_, i) => value(i));
}

function entry<B extends k.Bindings, P extends k.Params>(
  kernel: k.Kernel<B, P>,
  shape: string,
  values: k.Values<P>,
  words: { readonly [Name in keyof B]: number | Uint32Array<ArrayBuffer> },
): KernelCase {
  return { kernel: kernel as unknown as k.Kernel, shape, values, words };
}

function products(): KernelCase[] {
  const cases: KernelCase[] = [];
  const add = (
    kernel: typeof k.matmulNT | typeof k.matmulNN | typeof k.matmulTN,
    m: number,
    n: number,
    terms: number,
    accumulate: 0 | 1,
  ) => {
    const sizes = { a: m * terms, b: n * terms, c: m * n };
    cases.push(entry(kernel, `${m}x${n}x${terms}`, { m, n, k: terms, accumulate }, sizes));
  };
  for (const [m, n, terms] of [[512, 512, 512], [T, V, D], [T, 259, 96], [T, E, D], [1, V, D]]) {
    add(k.matmulNT, m, n, terms, 0);
  }
  for (const kernel of [k.matmulNTPacked, k.matmulNNPacked, k.matmulTNPacked]) {
    const values = { m: 512, n: 512, k: 512, accumulate: 0 };
    cases.push(entry(kernel, "512x512x512", values, { a: 2 ** 17, b: 2 ** 17, c: 2 ** 18 }));
  }
  const bias = { a: T * D, b: QKV * D, bias: QKV, c: T * QKV };
  cases.push(entry(k.matmulNTBias, `${T}x${QKV}x${D}`, { m: T, n: QKV, k: D }, bias));
  const residual = { a: T * D, b: D * D, residual: T * D, c: T * D };
  cases.push(entry(k.matmulNTAdd, `${T}x${D}x${D}`, { m: T, n: D, k: D }, residual));
  for (const [m, n, terms] of [[512, 512, 512], [T, D, V], [T, D, QKV], [T, D, D], [T, 96, 259], [T, D, E]]) {
    add(k.matmulNN, m, n, terms, 0);
  }
  for (const [m, n, terms] of [[512, 512, 512], [V, D, T], [QKV, D, T], [D, D, T], [259, 96, T], [E, D, T]]) {
    add(k.matmulTN, m, n, terms, 1);
  }
  const offsets = words(E + 1, (e) => Math.floor(R * e / E + (e % E === 0 ? 0 : 13 * (e % 3) - 11)));
  const grouped = { first: 0, groups: E, rows: R };
  for (const [n, terms] of [[2 * F, D], [D, F]]) {
    const sizes = { a: R * terms, b: E * n * terms, offsets, c: R * n };
    cases.push(entry(k.groupedNT, `${R}x${n}x${terms} in ${E}`, { ...grouped, n, k: terms }, sizes));
    const back = { a: R * n, b: E * n * terms, offsets, c: R * terms };
    cases.push(entry(k.groupedNN, `${R}x${terms}x${n} in ${E}`, { ...grouped, n: terms, k: n }, back));
    const gradient = { a: R * n, b: R * terms, offsets, c: E * n * terms };
    const values = { ...grouped, m: n, n: terms, accumulate: 1 };
    cases.push(entry(k.groupedTN, `${n}x${terms}x${R} in ${E}`, values, gradient));
  }
  return cases;
}

function rows(): KernelCase[] {
  const size = `${T}x${D}`;
  const wide = { rows: T, width: D };
  const heads = { batch: B, seq: S, heads: H, kvHeads: K, headDim: HD };
  const attention = `${B}x${S}, ${H}/${K}x${HD}`;
  const backward = { qkv: T * QKV, dout: T * H * HD, lse: T * H, delta: T * H, dqkv: T * QKV };
  const turn = { rows: T, seq: S, start: 0, heads: H + K, headDim: HD, stride: QKV, inverse: 0 };
  const ids = words(T, (i) => i * 7919 % V);
  const groups = k.groupTokens(ids);
  const expert = { rows: R, width: F, first: 0, groups: E };
  const offsets = words(E + 1, (e) => R * e / E);
  const normBack = { x: T * D, gain: D, inverse: T, dy: T * D, dx: T * D };
  const occurrences = { tokens: groups.tokens, starts: groups.starts, order: groups.order };
  return [
    entry(k.rmsNorm, size, { ...wide, eps: 1e-5 }, { x: T * D, gain: D, y: T * D, inverse: T }),
    entry(k.rmsNormBackward, size, { ...wide, accumulate: 1 }, normBack),
    entry(k.rmsNormGain, size, { ...wide, accumulate: 1 }, { x: T * D, inverse: T, dy: T * D, dgain: D }),
    entry(k.rope, `${T}x${H + K}x${HD}`, turn, { x: T * QKV, table: S * HD }),
    entry(k.attention, attention, heads, { qkv: T * QKV, out: T * H * HD, lse: T * H }),
    entry(k.attentionDelta, `${T}x${H}x${HD}`, { rows: T, heads: H, headDim: HD }, {
      out: T * H * HD,
      dout: T * H * HD,
      delta: T * H,
    }),
    entry(k.attentionBackwardQ, attention, heads, backward),
    entry(k.attentionBackwardKV, attention, heads, backward),
    entry(k.swiglu, `${R}x${F}`, expert, { gu: R * 2 * F, offsets, y: R * F }),
    entry(k.swigluBackward, `${R}x${F}`, expert, { gu: R * 2 * F, dy: R * F, offsets, dgu: R * 2 * F }),
    entry(k.embedding, size, wide, { ids, table: V * D, y: T * D }),
    entry(k.embeddingBackward, size, { unique: groups.tokens.length, width: D }, {
      ...occurrences,
      dy: T * D,
      dtable: V * D,
    }),
    entry(k.crossEntropy, `${T}x${V}`, { rows: T, vocab: V, gradient: 1 }, {
      logits: T * V,
      labels: ids,
      scale: 1,
      loss: T,
    }),
    entry(k.add, size, { length: T * D }, { x: T * D, y: T * D }),
    entry(k.columnSum, `${T}x${QKV}`, { rows: T, width: QKV, stride: QKV, start: 0, accumulate: 1 }, {
      x: T * QKV,
      y: QKV,
    }),
  ];
}

function experts(): KernelCase[] {
  const size = `${T}x${D}, ${C} of ${E}`;
  const wide = { rows: T, width: D, chosen: C };
  const choice = { rows: T, experts: E, chosen: C };
  const chosen = words(R, (a) => a % 2 === 0 ? (a >> 1) % E : ((a >> 1) + 3) % E);
  const slotOf = words(E, (e) => e);
  const counts = words(E, () => R / E);
  // Rows in order of expert, as a counting sort would place them.
  const order = [...chosen.keys()].sort((a, b) => chosen[a] - chosen[b] || a - b);
  const source = Uint32Array.from(order);
  const position = words(R, () => 0);
  order.forEach((assignment, row) => position[assignment] = row);
  const gradient = { dy: T * D, rows: R * D, weights: R, position, drows: R * D, dweights: R };
  const sort = { assignments: R, experts: E };
  const steps = { logits: T * E, experts: chosen, weights: R, dweights: R, stats: 2 * E + 1, dlogits: T * E };
  const flat = 2 ** 20;
  return [
    entry(k.routerTopK, `${T}, ${C} of ${E}`, choice, { logits: T * E, weights: R, experts: R }),
    entry(k.routerStats, `${T}, ${C} of ${E}`, choice, { logits: T * E, experts: chosen, stats: 2 * E + 1 }),
    entry(k.routerBackward, `${T}, ${C} of ${E}`, { ...choice, balance: 1e-3, z: 1e-2 }, steps),
    entry(k.dispatchCount, `${R} to ${E}`, sort, { experts: chosen, slotOf, counts: E }),
    entry(k.dispatchPlace, `${R} to ${E}`, sort, {
      experts: chosen,
      slotOf,
      counts,
      offsets: E + 1,
      position: R,
      source: R,
    }),
    entry(k.gatherRows, size, wide, { x: T * D, source, y: R * D }),
    entry(k.gatherRowsPacked, size, wide, { x: T * D / 2, source, y: R * D / 2 }),
    entry(k.combine, size, wide, { residual: T * D, rows: R * D, weights: R, position, y: T * D }),
    entry(k.combineBackward, size, wide, gradient),
    entry(k.sumRows, size, { ...wide, accumulate: 1 }, { drows: R * D, position, dx: T * D }),
    entry(k.adamw, `${flat}`, { length: flat, decay: 0.1 }, {
      w: flat,
      g: flat,
      m: flat,
      v: flat,
      scalars: 8,
    }),
  ];
}

/** What bf16 products put in the place of f32's. */
function packed(): KernelCase[] {
  const grouped = { first: 0, groups: E, rows: R };
  const offsets = words(E + 1, (e) => R * e / E);
  const expert = { rows: R, width: F, first: 0, groups: E };
  const side = 512, sizes = { a: side * side / 2, b: side * side / 2, c: side * side };
  const square = { m: side, n: side, k: side, accumulate: 0 }, shape = `${side}x${side}x${side}`;
  const weights = E * 2 * F * D / 2;
  return [
    entry(k.matmulNTPacked, shape, square, sizes),
    entry(k.matmulNNPacked, shape, square, sizes),
    entry(k.matmulTNPacked, shape, { ...square, accumulate: 1 }, sizes),
    entry(k.groupedNTPacked, `${R}x${2 * F}x${D} in ${E}`, { ...grouped, n: 2 * F, k: D }, {
      a: R * D / 2,
      b: weights,
      offsets,
      c: R * 2 * F,
    }),
    entry(k.groupedNNPacked, `${R}x${D}x${2 * F} in ${E}`, { ...grouped, n: D, k: 2 * F }, {
      a: R * F,
      b: weights,
      offsets,
      c: R * D,
    }),
    entry(k.groupedTNPacked, `${2 * F}x${D}x${R} in ${E}`, { ...grouped, m: 2 * F, n: D, accumulate: 1 }, {
      a: R * F,
      b: R * D / 2,
      offsets,
      c: 2 * weights,
    }),
    entry(k.packRows, `${R}x${F}`, { rows: R, width: F }, { x: R * F, y: R * F / 2 }),
    entry(k.swigluPacked, `${R}x${F}`, expert, { gu: R * 2 * F, offsets, y: R * F / 2 }),
    entry(k.swigluBackwardPacked, `${R}x${F}`, expert, {
      gu: R * 2 * F,
      dy: R * F,
      offsets,
      dgu: R * F,
    }),
  ];
}

/** All calls, in order of a step's parts. */
export function kernelCases(): KernelCase[] {
  return [...products(), ...rows(), ...experts(), ...packed()];
}
