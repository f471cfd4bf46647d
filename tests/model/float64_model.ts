/** The model in plain f64, for one sequence: what growth and upcycling must not change. Slow, short and independent. */
import type { ModelConfig } from "../../model/config.ts";

/** Tensors by Hugging Face name. */
export type Weights = ReadonlyMap<string, ArrayLike<number>>;

/** Logits [ids, vocabulary] of one sequence. */
export function logitsF64(config: ModelConfig, weights: Weights, ids: readonly number[]): Float64Array[] {
  const { hiddenSize: D, heads: H, kvHeads: K, headDim: hd } = config;
  const get = (name: string) => {
    const words = weights.get(name);
    if (words === undefined) throw new Error(`There is no ${name}`);
    return words;
  };
  const linear = (x: Float64Array, name: string, bias?: string) => {
    const w = get(name), out = new Float64Array(w.length / x.length);
    for (let o = 0; o < out.length; o++) {
      for (let i = 0; i < x.length; i++) out[o] += w[o * x.length + i] * x[i];
      if (bias !== undefined) out[o] += get(bias)[o];
    }
    return out;
  };
  const norm = (x: Float64Array, name: string) => {
    const mean = x.reduce((sum, v) => sum + v * v, 0) / x.length, gain = get(name);
    return x.map((v, i) => v / Math.sqrt(mean + config.rmsNormEps) * gain[i]);
  };
  const mlp = (x: Float64Array, gate: string, up: string, down: string) => {
    const u = linear(x, up);
    return linear(linear(x, gate).map((g, i) => g / (1 + Math.exp(-g)) * u[i]), down);
  };
  const turn = (x: Float64Array, position: number) => {
    const out = x.slice(), half = hd / 2;
    for (let at = 0; at < x.length; at += hd) {
      for (let i = 0; i < half; i++) {
        const angle = position * config.ropeTheta ** (-2 * i / hd), c = Math.cos(angle), s = Math.sin(angle);
        out[at + i] = x[at + i] * c - x[at + i + half] * s;
        out[at + i + half] = x[at + i + half] * c + x[at + i] * s;
      }
    }
    return out;
  };
  const embedding = get("model.embed_tokens.weight");
  const stream = ids.map((id) => Float64Array.from({ length: D }, (_, i) => embedding[id * D + i]));
  // With a ladder residual experts' outputs join behind the next layer's attention.
  const late = stream.map((x) => x.map(() => 0));
  const join = () =>
    stream.forEach((x, t) => x.forEach((_, i) => [x[i], late[t][i]] = [x[i] + late[t][i], 0]));
  for (let l = 0; l < config.layers; l++) {
    const p = `model.layers.${l}.`;
    const bias = (x: string) => config.attentionBias ? `${p}self_attn.${x}_proj.bias` : undefined;
    const project = (x: Float64Array, n: string) => linear(x, `${p}self_attn.${n}_proj.weight`, bias(n));
    const normed = stream.map((x) => norm(x, p + "input_layernorm.weight"));
    const q = normed.map((x, t) => turn(project(x, "q"), t)),
      k = normed.map((x, t) => turn(project(x, "k"), t));
    const v = normed.map((x) => project(x, "v"));
    stream.forEach((x, t) => {
      const mixed = new Float64Array(H * hd);
      for (let h = 0; h < H; h++) {
        const at = Math.floor(h / (H / K)) * hd;
        const score = Array.from({ length: t + 1 }, (_, s) => {
          let sum = 0;
          for (let i = 0; i < hd; i++) sum += q[t][h * hd + i] * k[s][at + i];
          return Math.exp(sum / Math.sqrt(hd));
        });
        const total = score.reduce((sum, e) => sum + e, 0);
        score.forEach((e, s) => {
          for (let i = 0; i < hd; i++) mixed[h * hd + i] += e / total * v[s][at + i];
        });
      }
      linear(mixed, p + "self_attn.o_proj.weight").forEach((value, i) => x[i] += value);
    });
    join();
    for (const [t, x] of stream.entries()) {
      const to = config.ladderResidual ? late[t] : x;
      const y = norm(x, p + "post_attention_layernorm.weight");
      if (config.experts === 0) {
        mlp(y, p + "mlp.gate_proj.weight", p + "mlp.up_proj.weight", p + "mlp.down_proj.weight")
          .forEach((value, i) => x[i] += value);
        continue;
      }
      const router = linear(y, p + "block_sparse_moe.gate.weight");
      const chosen = [...router.keys()].sort((a, b) => router[b] - router[a] || a - b).slice(
        0,
        config.expertsPerToken,
      );
      const total = chosen.reduce((sum, e) => sum + Math.exp(router[e]), 0);
      if (config.sharedExpert > 0) {
        const q = p + "block_sparse_moe.shared_expert.";
        mlp(y, q + "w1.weight", q + "w3.weight", q + "w2.weight").forEach((value, i) => to[i] += value);
      }
      for (const e of chosen) {
        const q = `${p}block_sparse_moe.experts.${e}.`, share = Math.exp(router[e]) / total;
        mlp(y, q + "w1.weight", q + "w3.weight", q + "w2.weight").forEach((value, i) =>
          to[i] += share * value
        );
      }
    }
  }
  join();
  const head = config.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  return stream.map((x) => linear(norm(x, "model.norm.weight"), head));
}

/** Relative L2 distance of two lists of rows. */
export function distance(a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]): number {
  let difference = 0, size = 0;
  a.forEach((row, r) => {
    for (let i = 0; i < row.length; i++) {
      difference += (row[i] - b[r][i]) ** 2;
      size += row[i] ** 2;
    }
  });
  return Math.sqrt(difference / size);
}

/** Mean cross-entropy of `labels` at the places of `ids`, in f64. */
export function lossF64(
  config: ModelConfig,
  weights: Weights,
  ids: Uint32Array,
  labels: Uint32Array,
): number {
  const rows = logitsF64(config, weights, [...ids]);
  return rows.reduce((sum, row, t) => {
    const most = Math.max(...row);
    return sum + most + Math.log(row.reduce((total, v) => total + Math.exp(v - most), 0)) - row[labels[t]];
  }, 0) / rows.length;
}
