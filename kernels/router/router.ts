/**
 * The router of a mixture-of-experts layer: which experts a token goes to, how even the load is, and the way back.
 * In all three kernels `rows` counts tokens (T), `experts` is E, `chosen` is k; assignment a = token * k + rank.
 *
 * @module
 */
import { defineKernel } from "../kernel.ts";
import { routerBackwardCost, routerStatsCost, routerTopKCost } from "./cost.ts";
import backwardProgram from "./router_backward.wgsl" with { type: "text" };
import statsProgram from "./router_stats.wgsl" with { type: "text" };
import topKProgram from "./router_top_k.wgsl" with { type: "text" };

/** Most experts that a token can be sent to: the program keeps so many candidates in registers. */
export const MAX_CHOSEN = 16;

/** Most experts of one layer. */
export const MAX_EXPERTS = 1024;

/** Lanes of the programs here; each takes a token. */
const LANES = 64;

/** Throws a RangeError unless 1 <= chosen <= experts, within {@linkcode MAX_CHOSEN} and {@linkcode MAX_EXPERTS}. */
function checkCounts(experts: number, chosen: number): void {
  if (experts < 1 || experts > MAX_EXPERTS) {
    throw new RangeError(`Cannot route to ${experts} experts: the number must lie in 1..${MAX_EXPERTS}`);
  }
  if (chosen < 1 || chosen > Math.min(experts, MAX_CHOSEN)) {
    throw new RangeError(
      `Cannot choose ${chosen} of ${experts} experts: the number must lie in 1..${
        Math.min(experts, MAX_CHOSEN)
      }`,
    );
  }
}

function tokenGrid({ rows, experts, chosen }: { rows: number; experts: number; chosen: number }): number {
  checkCounts(experts, chosen);
  return Math.ceil(rows / LANES);
}

/**
 * The k largest of each token's logits [T, E], largest first (of equal ones the lower index first), as `experts` u32 [T, k]
 * and `weights` [T, k] = softmax over the chosen logits.
 */
export const routerTopK = defineKernel({
  name: "routerTopK",
  bindings: { logits: "f32 read", weights: "f32 write", experts: "u32 write" },
  params: { rows: "u32", experts: "u32", chosen: "u32" },
  wgsl: topKProgram,
  grid: tokenGrid,
  cost: routerTopKCost,
  reference({ logits, weights, experts: chosenExperts }, { rows, experts, chosen }) {
    checkCounts(experts, chosen);
    const best = new Float32Array(chosen);
    const index = new Uint32Array(chosen);
    for (let row = 0; row < rows; row++) {
      const base = row * experts;
      for (let expert = 0; expert < experts; expert++) {
        const value = logits[base + expert];
        let place = Math.min(expert, chosen);
        while (place > 0 && value > best[place - 1]) {
          if (place < chosen) {
            best[place] = best[place - 1];
            index[place] = index[place - 1];
          }
          place--;
        }
        if (place < chosen) {
          best[place] = value;
          index[place] = expert;
        }
      }
      const largest = best[0];
      let sum = 0;
      for (let rank = 0; rank < chosen; rank++) {
        best[rank] = Math.exp(best[rank] - largest);
        sum += best[rank];
      }
      for (let rank = 0; rank < chosen; rank++) {
        weights[row * chosen + rank] = best[rank] / sum;
        chosenExperts[row * chosen + rank] = index[rank];
      }
    }
  },
});

/**
 * How even the load is: `stats` [2 E + 1] = for each expert its share f_e of the T * k assignments, for each expert its
 * mean probability P_e (softmax over all logits), and the mean over tokens of logsumexp(logits)^2.
 * The balancing loss is E * sum of f_e * P_e (1 when balanced), the z-loss (ST-MoE, Zoph et al. 2022) is the last word.
 */
export const routerStats = defineKernel({
  name: "routerStats",
  bindings: { logits: "f32 read", experts: "u32 read", stats: "f32 write" },
  params: { rows: "u32", experts: "u32", chosen: "u32" },
  wgsl: statsProgram,
  grid({ experts, chosen }) {
    checkCounts(experts, chosen);
    let tile = 8;
    while (tile < 256 && tile < experts) tile *= 2;
    return Math.ceil(experts / tile);
  },
  cost: routerStatsCost,
  reference({ logits, experts: chosenExperts, stats }, { rows, experts, chosen }) {
    checkCounts(experts, chosen);
    // Sums in double precision: the reference says what the right answer is, the program is close to it.
    const shares = new Float64Array(experts);
    const means = new Float64Array(experts);
    const row_E = new Float64Array(experts);
    let squares = 0;
    for (let a = 0; a < rows * chosen; a++) shares[chosenExperts[a]]++;
    for (let row = 0; row < rows; row++) {
      const { largest, sum } = softmaxRow(logits, row * experts, experts, row_E);
      for (let e = 0; e < experts; e++) means[e] += row_E[e] / sum;
      squares += (largest + Math.log(sum)) ** 2;
    }
    for (let e = 0; e < experts; e++) {
      stats[e] = shares[e] / (rows * chosen);
      stats[experts + e] = means[e] / rows;
    }
    stats[2 * experts] = squares / rows;
  },
});

/**
 * Gradient of the router's logits [T, E]: through the weights of the chosen (`dweights` [T, k]), plus `balance` times the
 * gradient of the balancing loss (through P only; f is what `stats` says), plus `z` times that of the z-loss.
 */
export const routerBackward = defineKernel({
  name: "routerBackward",
  bindings: {
    logits: "f32 read",
    experts: "u32 read",
    weights: "f32 read",
    dweights: "f32 read",
    stats: "f32 read",
    dlogits: "f32 write",
  },
  params: { rows: "u32", experts: "u32", chosen: "u32", balance: "f32", z: "f32" },
  wgsl: backwardProgram,
  grid: tokenGrid,
  cost: routerBackwardCost,
  reference(
    { logits, experts: chosenExperts, weights, dweights, stats, dlogits },
    { rows, experts, chosen, balance, z },
  ) {
    checkCounts(experts, chosen);
    const row_E = new Float64Array(experts);
    for (let row = 0; row < rows; row++) {
      const base = row * experts;
      const { largest, sum } = softmaxRow(logits, base, experts, row_E);
      let load = 0;
      for (let e = 0; e < experts; e++) load += stats[e] * row_E[e];
      load /= sum;
      const byBalance = balance * experts / rows;
      const byZ = z * 2 * (largest + Math.log(sum)) / rows;
      for (let e = 0; e < experts; e++) row_E[e] = row_E[e] / sum * (byBalance * (stats[e] - load) + byZ);
      const first = row * chosen;
      let mean = 0;
      for (let a = first; a < first + chosen; a++) mean += weights[a] * dweights[a];
      for (let a = first; a < first + chosen; a++) {
        row_E[chosenExperts[a]] += weights[a] * (dweights[a] - mean);
      }
      dlogits.set(row_E, base);
    }
  },
});

/** Fills `out` with exp(logit - largest) of one row; answers with the largest and the sum of `out`. */
function softmaxRow(logits: Float32Array, base: number, experts: number, out: Float64Array) {
  let largest = logits[base];
  for (let e = 1; e < experts; e++) if (logits[base + e] > largest) largest = logits[base + e];
  let sum = 0;
  for (let e = 0; e < experts; e++) {
    out[e] = Math.exp(logits[base + e] - largest);
    sum += out[e];
  }
  return { largest, sum };
}
