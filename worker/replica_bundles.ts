/**
 * What pipelines exchange, as it follows from the plan alone: tensors of one layer between two workers travel together.
 *
 * @module
 */
import { holderOf, pipelineOf, type Slice } from "../mesh/plan.ts";
import type { ModelConfig } from "../model/config.ts";
import { elements, parameterTable, type TensorSpec } from "../model/tensors.ts";
import { PlanViolationError } from "./errors.ts";

/** Tensors of one layer that a worker and one of another pipeline both hold, of which one of the two is the owner. */
export interface Bundle {
  readonly peer: string;
  /** Place of the peer's pipeline. */
  readonly pipeline: number;
  /** -1 the embedding, the number of layers the end. */
  readonly layer: number;
  /** In the order of the model's parameter table. */
  readonly tensors: readonly TensorSpec[];
  /** f32 words of all of them. */
  readonly words: number;
  /** The own worker is the owner. */
  readonly owned: boolean;
}

/**
 * What a slice's worker exchanges with other pipelines; in order of the layers, then of the peers. Nothing where the plan has
 * one pipeline.
 *
 * @throws {PlanViolationError} Where the plan's pipelines, shares and owners contradict each other.
 */
export function bundlesOf(slice: Slice, config: ModelConfig): Bundle[] {
  const { replication, self } = slice;
  if (replication === undefined) return [];
  const { pipelines, owners, own } = replication;
  checkReplication(slice, config);
  const bundles = new Map<string, Bundle & { tensors: TensorSpec[]; words: number }>();
  for (const spec of parameterTable(config)) {
    const holder = pipelines.map(({ stages }) => holderOf(stages, spec.layer, spec.expert));
    if (holder[own] !== self) continue;
    const owner = owners[spec.layer + 1], owned = owner === own;
    for (const pipeline of owned ? pipelines.keys() : [owner]) {
      if (pipeline === own) continue;
      const peer = holder[pipeline], key = `${spec.layer} ${peer}`;
      let bundle = bundles.get(key);
      if (bundle === undefined) {
        bundles.set(key, bundle = { peer, pipeline, layer: spec.layer, tensors: [], words: 0, owned });
      }
      bundle.tensors.push(spec);
      bundle.words += elements(spec.shape);
    }
  }
  return [...bundles.values()].sort((a, b) => a.layer - b.layer || (a.peer < b.peer ? -1 : 1));
}

/** Throws {@linkcode PlanViolationError} where the parts of a plan with replicas contradict each other. */
function checkReplication({ shape, replication, self }: Slice, config: ModelConfig): void {
  const { pipelines, owners, own } = replication!;
  const microbatches = pipelines.flatMap(({ shares }) => shares).reduce((sum, share) => sum + share, 0);
  const wrong = microbatches !== shape.microbatches
    ? `its shares have ${microbatches} microbatches, its rounds ${shape.microbatches}`
    : pipelines.some(({ shares }, p) => p > 0 && shares.length > 1)
    ? "a pipeline behind the first has several shares"
    : owners.length !== config.layers + 2 || owners.some((owner) => owner >= pipelines.length)
    ? "its owners do not fit its layers and pipelines"
    : pipelines.some((pipeline) => !covers(pipeline.stages, config.layers))
    ? `its replicas are not all of one model: one does not hold each of the ${config.layers} layers once`
    : pipelineOf(pipelines, self) !== own
    ? `${self} is not in pipeline ${own}`
    : undefined;
  if (wrong !== undefined) throw new PlanViolationError(`The plan cannot be carried out: ${wrong}`);
}

/** Whether stages hold the layers of a model one behind the other. */
function covers(stages: Slice["stages"], layers: number): boolean {
  let next = 0;
  for (const { from, to } of stages) {
    if (from !== next) return false;
    next = to;
  }
  return next === layers;
}

/** The names of a bundle's tensors, in their order. */
export function namesOf({ tensors }: Bundle): string[] {
  return tensors.map(({ name }) => name);
}
