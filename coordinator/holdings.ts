/**
 * Who owns which tensor under a plan, and what that weighs.
 *
 * @module
 */
import type { ModelConfig } from "../model/config.ts";
import { parameterTable, type TensorSpec } from "../model/tensors.ts";
import type { Shape, Stage } from "../mesh/plan.ts";

/** A tensor and the worker that owns it: votes on it, steps it and gives it to checkpoints. */
export interface Owned extends TensorSpec {
  readonly owner: string;
}

/** Every tensor of the model with its owner, in the parameter table's order. */
export function owners(config: ModelConfig, stages: readonly Stage[]): Owned[] {
  const embedding = stages.find((stage) => stage.embedding)!.worker;
  const head = stages.find((stage) => stage.head)!.worker;
  return parameterTable(config).map((spec) => {
    if (spec.layer < 0) return { ...spec, owner: embedding };
    if (spec.layer >= config.layers) return { ...spec, owner: head };
    const stage = stages.find((s) => s.from <= spec.layer && spec.layer < s.to)!;
    const host = spec.expert === undefined ? undefined : stage.experts[spec.layer - stage.from][spec.expert];
    return { ...spec, owner: host ?? stage.worker };
  });
}

/** Words of a tensor. */
export function words(spec: { readonly shape: readonly number[] }): number {
  return spec.shape.reduce((product, n) => product * n, 1);
}

/** What a worker holds under a plan, for tables and for the check against its memory. */
export interface Holding {
  readonly worker: string;
  /** Its stage, if it has one. */
  readonly stage?: Stage;
  /** Experts that it hosts, by layer. */
  readonly experts: ReadonlyMap<number, readonly number[]>;
  /** Parameters that it owns (and a tied head's copy). */
  readonly parameters: number;
  /** Bytes of weights, gradients and moments, and an estimate of the activations of the microbatches in flight. */
  readonly bytes: number;
}

/** Weight, gradient and the two moments, f32. */
const bytesPerParameter = 16;

/** What each of `workers` holds. */
export function holdings(
  config: ModelConfig,
  stages: readonly Stage[],
  workers: readonly string[],
  shape: Shape,
  recompute: boolean,
): Holding[] {
  const table = owners(config, stages);
  const tokens = shape.batch * shape.sequence;
  return workers.map((worker) => {
    const s = stages.findIndex((stage) => stage.worker === worker);
    const stage = s < 0 ? undefined : stages[s];
    const experts = new Map<number, number[]>();
    let parameters = 0;
    for (const spec of table) {
      if (spec.owner !== worker) continue;
      parameters += words(spec);
      if (spec.role === "expert-gate") {
        const own = experts.get(spec.layer) ?? [];
        own.push(spec.expert!);
        experts.set(spec.layer, own);
      }
    }
    if (config.tiedEmbeddings && stage?.head && !stage.embedding) {
      parameters += config.vocabSize * config.hiddenSize;
    }
    const inFlight = stage ? Math.min(shape.microbatches, stages.length - s) : 1;
    const activations = stage
      ? stage.experts.length * inFlight * activationWords(config, tokens, recompute) +
        (stage.head ? tokens * config.vocabSize : 0)
      : tokens * Math.max(1, config.expertsPerToken) * (2 * config.hiddenSize + 3 * config.intermediateSize);
    return { worker, stage, experts, parameters, bytes: bytesPerParameter * parameters + 4 * activations };
  });
}

/** Words that one layer keeps of one microbatch between forward and backward pass. */
function activationWords(config: ModelConfig, tokens: number, recompute: boolean): number {
  const { hiddenSize: D, intermediateSize: F, heads, kvHeads, headDim } = config;
  if (recompute) return tokens * D;
  const attention = 3 * D + (2 * heads + 2 * kvHeads) * headDim + heads;
  const visits = Math.max(1, config.expertsPerToken);
  return tokens *
    (attention + 2 * D + visits * (2 * D + 3 * F) + 3 * config.sharedExpert + 2 * config.experts);
}
