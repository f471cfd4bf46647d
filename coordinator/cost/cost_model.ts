/**
 * What a pass costs: operations and bytes of every kernel call that model/ makes, from the kernels' own formulas. A call
 * takes as long as the slower of its two limits, arithmetic or memory, and a launch; calls follow one another.
 *
 * Legend: T tokens of a microbatch, D hidden, F width of an MLP or expert, S of the shared expert, H query heads, K key/value
 * heads, hd head size, W = (H + 2K) hd, E experts, k chosen for each token, R = T k rows for experts, V vocabulary.
 *
 * @module
 */
import {
  adamwCost,
  addCost,
  attentionBackwardKVCost,
  attentionBackwardQCost,
  attentionCost,
  attentionDeltaCost,
  columnSumCost,
  combineBackwardCost,
  combineCost,
  crossEntropyCost,
  dispatchCountCost,
  dispatchPlaceCost,
  embeddingBackwardCost,
  embeddingCost,
  gatherRowsCost,
  groupedCost,
  groupedGradientCost,
  matmulAddCost,
  matmulBiasCost,
  matmulCost,
  rmsNormBackwardCost,
  rmsNormCost,
  rmsNormGainCost,
  ropeCost,
  routerBackwardCost,
  routerStatsCost,
  routerTopKCost,
  sumRowsCost,
  sumSquaresCost,
  swigluBackwardCost,
  swigluCost,
} from "../../kernels/costs.ts";
import type { Profile } from "../../mesh/control/messages.ts";
import type { Shape } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";

/** One kernel call: floating-point operations, and bytes of device memory read and written. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** The two limits of a device, operations and bytes a second, and what a call takes beside both. */
export type DeviceSpeed = Pick<Profile, "flops" | "bandwidth" | "launch">;

/** A pass of something over one microbatch. The backward pass is told apart by what its gradients are for. */
export interface PassCosts {
  readonly forward: readonly Cost[];
  /** Gradient of the input: what the stage before waits for. */
  readonly input: readonly Cost[];
  /** Gradients of the weights: nobody waits for them before the vote. */
  readonly weight: readonly Cost[];
}

/** A layer without its routed experts. In a MoE layer rows visit the experts between the two halves of each pass. */
export interface LayerCosts {
  /** Up to the experts: attention, norms, router. All of a dense layer's passes is here. */
  readonly before: PassCosts;
  /** Behind the experts, in the order of each pass: the shared expert, the weighted sum; router, norms and attention backward. */
  readonly after: PassCosts;
  /** Attention's part of both, which a ladder residual computes while rows of another layer are away. */
  readonly attention: PassCosts;
}

/** Seconds that calls take on a device. */
export function secondsOf(costs: readonly Cost[], { flops, bandwidth, launch = 0 }: DeviceSpeed): number {
  let seconds = launch * costs.length;
  for (const cost of costs) seconds += Math.max(cost.flops / flops, cost.bytes / bandwidth);
  return seconds;
}

/** A layer's passes over one microbatch, as model/layers/attention_block.ts, mlp_block.ts and moe_*.ts make them. */
export function layerCosts(
  config: ModelConfig,
  { batch, sequence }: Omit<Shape, "microbatches">,
): LayerCosts {
  const { hiddenSize: D, intermediateSize: F, heads: H, kvHeads: K, headDim: hd, experts: E } = config;
  const T = batch * sequence, W = (H + 2 * K) * hd, chosen = config.expertsPerToken, R = T * chosen;
  const rows = { rows: T, width: D }, seqs = { batch, seq: sequence, heads: H, kvHeads: K, headDim: hd };
  const turn = ropeCost({ rows: T, heads: H + K, headDim: hd });
  const attention: PassCosts = {
    forward: [
      rmsNormCost(rows),
      config.attentionBias ? matmulBiasCost(T, W, D) : matmulCost(T, W, D, 0),
      turn,
      attentionCost(seqs),
      matmulAddCost(T, D, H * hd),
    ],
    input: [
      matmulCost(T, H * hd, D, 0),
      attentionDeltaCost({ rows: T, heads: H, headDim: hd }),
      attentionBackwardQCost(seqs),
      attentionBackwardKVCost(seqs),
      turn,
      matmulCost(T, D, W, 0),
      rmsNormBackwardCost(rows),
    ],
    weight: [
      matmulCost(D, H * hd, T, 1),
      ...(config.attentionBias ? [columnSumCost({ rows: T, width: W })] : []),
      matmulCost(W, D, T, 1),
      rmsNormGainCost(rows),
    ],
  };
  if (E === 0) {
    const dense: PassCosts = {
      forward: [
        rmsNormCost(rows),
        matmulCost(T, 2 * F, D, 0),
        swigluCost({ rows: T, width: F }),
        matmulAddCost(T, D, F),
      ],
      input: [
        matmulCost(T, F, D, 0),
        swigluBackwardCost({ rows: T, width: F }),
        matmulCost(T, D, 2 * F, 0),
        rmsNormBackwardCost(rows),
      ],
      weight: [matmulCost(D, F, T, 1), matmulCost(2 * F, D, T, 1), rmsNormGainCost(rows)],
    };
    return { before: joined(attention, dense), after: { forward: [], input: [], weight: [] }, attention };
  }
  const places = { assignments: R, experts: E }, routed = { rows: T, experts: E, chosen };
  const moved = { rows: T, width: D, chosen }, shared = sharedCosts(config, T);
  return {
    before: {
      forward: [
        ...attention.forward,
        rmsNormCost(rows),
        matmulCost(T, E, D, 0),
        routerTopKCost(routed),
        routerStatsCost(routed),
        dispatchCountCost(places),
        dispatchPlaceCost(places),
      ],
      input: [combineBackwardCost(moved)],
      weight: [],
    },
    after: {
      forward: [
        combineCost(moved),
        ...shared.forward,
        ...(config.ladderResidual ? [addCost({ length: T * D })] : []),
      ],
      input: [
        routerBackwardCost(routed),
        sumRowsCost(moved),
        matmulCost(T, D, E, 1),
        ...shared.input,
        rmsNormBackwardCost(rows),
        ...attention.input,
      ],
      weight: [matmulCost(E, D, T, 1), ...shared.weight, rmsNormGainCost(rows), ...attention.weight],
    },
    attention,
  };
}

/** The shared expert of one layer. */
function sharedCosts({ hiddenSize: D, sharedExpert: S }: ModelConfig, T: number): PassCosts {
  if (S === 0) return { forward: [], input: [], weight: [] };
  const gated = { rows: T, width: S };
  return {
    forward: [matmulCost(T, 2 * S, D, 0), swigluCost(gated), matmulCost(T, D, S, 1)],
    input: [matmulCost(T, S, D, 0), swigluBackwardCost(gated), matmulCost(T, D, 2 * S, 1)],
    weight: [matmulCost(D, S, T, 1), matmulCost(2 * S, D, T, 1)],
  };
}

/** `experts` experts of one layer over the rows that are theirs where all experts are asked equally often. */
export function expertCosts(config: ModelConfig, tokens: number, experts: number): PassCosts {
  const { hiddenSize: D, intermediateSize: F } = config;
  const rows = expertRows(config, tokens, experts);
  if (rows === 0) return { forward: [], input: [], weight: [] };
  return {
    forward: [
      groupedCost(rows, 2 * F, D, experts),
      swigluCost({ rows, width: F }),
      groupedCost(rows, D, F, experts),
    ],
    input: [
      groupedCost(rows, F, D, experts),
      swigluBackwardCost({ rows, width: F }),
      groupedCost(rows, D, 2 * F, experts),
    ],
    weight: [
      groupedGradientCost(rows, D, F, experts, 1),
      groupedGradientCost(rows, 2 * F, D, experts, 1),
    ],
  };
}

/** Bringing a layer's own rows together for `experts` experts that the stage itself holds. */
export function gatherCost(config: ModelConfig, tokens: number, experts: number): Cost {
  const share = config.experts === 0 ? 0 : experts / config.experts;
  return gatherRowsCost({
    rows: tokens * share,
    width: config.hiddenSize,
    chosen: config.expertsPerToken,
  });
}

/** Rows of one microbatch that visit `experts` of a layer's experts. */
export function expertRows(config: ModelConfig, tokens: number, experts: number): number {
  return config.experts === 0 ? 0 : tokens * config.expertsPerToken * experts / config.experts;
}

/** The embedding's passes. How often tokens repeat is not known: the gradient counts each as its own row. */
export function embeddingCosts(config: ModelConfig, tokens: number): PassCosts {
  const width = config.hiddenSize, unique = Math.min(tokens, config.vocabSize);
  return {
    forward: [embeddingCost({ rows: tokens, width })],
    input: [],
    weight: [embeddingBackwardCost({ unique, width })],
  };
}

/** The head's passes. In training its gradients are computed in the forward pass (see model/layers/head.ts). */
export function headCosts(config: ModelConfig, tokens: number, training: boolean): PassCosts {
  const { hiddenSize: D, vocabSize: V } = config, rows = { rows: tokens, width: D };
  const loss = [
    rmsNormCost(rows),
    matmulCost(tokens, V, D, 0),
    crossEntropyCost({ rows: tokens, vocab: V, gradient: training ? 1 : 0 }),
  ];
  const gradients = [
    matmulCost(V, D, tokens, 1),
    matmulCost(tokens, D, V, 0),
    rmsNormGainCost(rows),
    rmsNormBackwardCost(rows),
  ];
  return { forward: training ? [...loss, ...gradients] : loss, input: [], weight: [] };
}

/** The end of a step for `parameters` owned parameters: sums of squares before the vote, AdamW and clearing behind it. */
export function stepCosts(parameters: number): { vote: Cost[]; step: Cost[] } {
  return {
    vote: [sumSquaresCost({ chunks: Math.ceil(parameters / 4096) })],
    step: [adamwCost({ length: parameters }), { flops: 0, bytes: 4 * parameters }],
  };
}

function joined(a: PassCosts, b: PassCosts): PassCosts {
  return {
    forward: [...a.forward, ...b.forward],
    input: [...a.input, ...b.input],
    weight: [...a.weight, ...b.weight],
  };
}
