/**
 * Arithmetic of training, in floating-point operations: what compute is counted in when recipes are compared. The sum over
 * every kernel call of a step, from the kernels' own formulas (see cost_model.ts), so that attention, routers, the head and
 * the optimizer are in it. A multiplication and an addition are two operations.
 *
 * @module
 */
import { pipelineOf, type Plan, type Shape } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countParameters } from "../../model/tensors.ts";
import {
  type Cost,
  embeddingCosts,
  expertCosts,
  headCosts,
  layerCosts,
  type PassCosts,
  stepCosts,
} from "./cost_model.ts";

/** Visits of a layer by a microbatch in one round of a plan: fewer than all where microbatches leave stages out. */
export function layerVisits({ pipelines, operations }: Pick<Plan, "pipelines" | "operations">): number {
  let visits = 0;
  for (const [worker, { train }] of Object.entries(operations)) {
    const { stages } = pipelines[pipelineOf(pipelines, worker)];
    for (const operation of train) {
      if (operation.do === "forward") visits += stages[operation.stage].to - stages[operation.stage].from;
    }
  }
  return visits;
}

/**
 * Floating-point operations of one optimizer step; recomputation is extra work, not progress, and not counted. `visits` as
 * in {@linkcode layerVisits}; default: of all layers by all microbatches.
 */
export function stepFlops(
  config: ModelConfig,
  shape: Shape,
  visits: number = config.layers * shape.microbatches,
): number {
  const tokens = shape.batch * shape.sequence, layer = layerCosts(config, shape);
  const all = (costs: PassCosts) => sum(costs.forward) + sum(costs.input) + sum(costs.weight);
  const oneLayer = all(layer.before) + all(layer.after) + all(expertCosts(config, tokens, config.experts));
  const ends = all(embeddingCosts(config, tokens)) + all(headCosts(config, tokens, true));
  const { vote, step } = stepCosts(countParameters(config).total);
  return visits * oneLayer + shape.microbatches * ends + sum(vote) + sum(step);
}

/** Floating-point operations of a validation round. */
export function validationFlops(config: ModelConfig, shape: Shape): number {
  const tokens = shape.batch * shape.sequence, layer = layerCosts(config, shape);
  const oneLayer = sum(layer.before.forward) + sum(layer.after.forward) +
    sum(expertCosts(config, tokens, config.experts).forward);
  return shape.microbatches *
    (config.layers * oneLayer + sum(embeddingCosts(config, tokens).forward) +
      sum(headCosts(config, tokens, false).forward));
}

function sum(costs: readonly Cost[]): number {
  return costs.reduce((total, { flops }) => total + flops, 0);
}
