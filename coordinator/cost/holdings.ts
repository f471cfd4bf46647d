/**
 * Who owns which tensor under a plan, and what that weighs.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import { halfWords } from "./memory_model.ts";
import { type Action, mostKept } from "../schedule/schedules.ts";
import { borderWords } from "../../model/layers/residual.ts";
import { parameterTable, type TensorSpec } from "../../model/tensors.ts";
import { holderOf, type Operation, type Pipeline, type Plan, type Stage } from "../../mesh/plan.ts";

/** A tensor and the worker that owns it: votes on it, steps it and gives it to checkpoints. */
export interface Owned extends TensorSpec {
  readonly owner: string;
}

/** Every tensor of the model with its owner, in the parameter table's order. */
export function owners(config: ModelConfig, plan: Pick<Plan, "pipelines" | "owners">): Owned[] {
  return parameterTable(config).map((spec) => {
    const { stages } = plan.pipelines[plan.owners[spec.layer + 1]];
    return { ...spec, owner: holderOf(stages, spec.layer, spec.expert) };
  });
}

/**
 * Shares out what pipelines own of a model, so that all have about as many parameters to add up, step and send: the largest
 * layers first, each to the pipeline that has least.
 */
export function shareOwnership(config: ModelConfig, pipelines: number): number[] {
  const sizes = new Array<number>(config.layers + 2).fill(0);
  for (const spec of parameterTable(config)) sizes[spec.layer + 1] += words(spec);
  const owned = new Array<number>(pipelines).fill(0), places = new Array<number>(sizes.length).fill(0);
  const order = sizes.map((size, place) => ({ size, place })).sort((a, b) =>
    b.size - a.size || a.place - b.place
  );
  for (const { size, place } of order) {
    const least = owned.indexOf(Math.min(...owned));
    owned[least] += size;
    places[place] = least;
  }
  return places;
}

/** Words of a tensor. */
export function words(spec: { readonly shape: readonly number[] }): number {
  return spec.shape.reduce((product, n) => product * n, 1);
}

/** What a worker holds under a plan, for tables and for the check against its memory. */
export interface Holding {
  readonly worker: string;
  /** Its stages, in order of the layers; hosts have none. */
  readonly stages: readonly Stage[];
  /** Experts that it hosts, by layer. */
  readonly experts: ReadonlyMap<number, readonly number[]>;
  /** Place of its pipeline where there are several. */
  readonly replica?: number;
  /** Parameters that it owns (and a tied head's copy, and those of layers that another pipeline owns). */
  readonly parameters: number;
  /** Bytes of weights, gradients and moments, and an estimate of the activations of the microbatches in flight. */
  readonly bytes: number;
}

/** Weight, gradient and the two moments, f32. */
const bytesPerParameter = 16;
/** Weight and gradient. */
const bytesPerCopy = 8;
/** The copy that products read where their factors are rounded. */
const bytesPerPacked = 2;

/** What holdings depend on. */
type HoldingPlan = Pick<
  Plan,
  "pipelines" | "owners" | "shape" | "recompute" | "precision" | "local" | "operations"
>;

/** What the workers of each pipeline hold, hosts behind the holders of layers. */
export function holdings(
  config: ModelConfig,
  plan: HoldingPlan,
): Holding[] {
  return plan.pipelines.flatMap((pipeline, place) => {
    const { stages } = pipeline;
    const workers = [
      ...new Set([...stages.map(({ worker }) => worker), ...stages.flatMap((s) => s.experts.flat())]),
    ];
    const replica = plan.pipelines.length > 1 ? { replica: place } : {};
    return workers.map((worker) => ({ ...replica, ...holding(config, pipeline, worker, plan, place) }));
  });
}

function holding(
  config: ModelConfig,
  { stages, shares }: Pipeline,
  worker: string,
  { owners, shape, recompute, precision, local, operations }: HoldingPlan,
  place: number,
): Holding {
  const tokens = shape.batch * shape.sequence;
  const own = stages.filter((stage) => stage.worker === worker);
  const embedding = own.some((stage) => stage.embedding), head = own.some((stage) => stage.head);
  const experts = new Map<number, number[]>();
  let parameters = 0, bytes = 0;
  for (const spec of parameterTable(config)) {
    if (holderOf(stages, spec.layer, spec.expert) !== worker) continue;
    parameters += words(spec);
    bytes += words(spec) * (local || owners[spec.layer + 1] === place ? bytesPerParameter : bytesPerCopy);
    if (spec.role === "expert-gate") {
      const hosted = experts.get(spec.layer) ?? [];
      hosted.push(spec.expert!);
      experts.set(spec.layer, hosted);
    }
  }
  if (config.tiedEmbeddings && head && !embedding) {
    parameters += config.vocabSize * config.hiddenSize;
    bytes += bytesPerCopy * config.vocabSize * config.hiddenSize;
  }
  const kept = activationWords(config, tokens, recompute);
  const halved = activationWords(config, tokens, false) + halfWords(config, tokens);
  const activations = own.length > 0
    ? mostKept(passes(operations[worker].train), (s) => {
      const layers = stages[s].to - stages[s].from;
      return { kept: layers * kept, halved: layers * halved };
    }) + (head ? tokens * config.vocabSize : 0)
    : tokens * Math.max(1, config.expertsPerToken) * (2 * config.hiddenSize + 3 * config.intermediateSize);
  if (precision === "bf16") bytes += bytesPerPacked * parameters;
  // Sums of shares lie beside the gradients.
  const sums = shares.length > 1 ? 4 * parameters : 0;
  return { worker, stages: own, experts, parameters, bytes: bytes + sums + 4 * activations };
}

/** The passes of a worker's operations, in their order. */
export function passes(list: readonly Operation[]): Action[] {
  return list.flatMap((operation) => {
    switch (operation.do) {
      case "forward":
      case "backward":
      case "backward-input":
      case "backward-weight":
        return [{ work: operation.do, stage: operation.stage, microbatch: operation.microbatch }];
      default:
        return [];
    }
  });
}

/** Words that one layer keeps of one microbatch between forward and backward pass. */
function activationWords(config: ModelConfig, tokens: number, recompute: boolean): number {
  const { hiddenSize: D, intermediateSize: F, heads, kvHeads, headDim } = config;
  if (recompute) return borderWords(config, tokens); // what came into the layer
  const attention = 3 * D + (2 * heads + 2 * kvHeads) * headDim + heads;
  const visits = Math.max(1, config.expertsPerToken);
  return tokens *
    (attention + 2 * D + visits * (2 * D + 3 * F) + 3 * config.sharedExpert + 2 * config.experts);
}
