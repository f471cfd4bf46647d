/**
 * What crosses links between the replicas of a plan in each round.
 *
 * @module
 */
import { FRAME_BYTES } from "../../mesh/tensors/frame.ts";
import { holderOf, type Plan } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { parameterTable } from "../../model/tensors.ts";
import { words } from "./holdings.ts";

/** Bytes of tensors that one worker owns and another has copies of: gradients come from the copies, weights go to them. */
export interface Copies {
  readonly owner: string;
  readonly copy: string;
  readonly bytes: number;
}

/** Every pair of workers of different pipelines that share tensors, f32, in a stable order. */
export function copiesOf(
  config: ModelConfig,
  { pipelines, owners }: Pick<Plan, "pipelines" | "owners">,
): Copies[] {
  const pairs = new Map<string, { owner: string; copy: string; bytes: number }>();
  if (pipelines.length === 1) return [];
  for (const spec of parameterTable(config)) {
    const own = owners[spec.layer + 1], owner = holderOf(pipelines[own].stages, spec.layer, spec.expert);
    pipelines.forEach(({ stages }, p) => {
      if (p === own) return;
      const copy = holderOf(stages, spec.layer, spec.expert), key = `${owner}\n${copy}`;
      const pair = pairs.get(key) ?? { owner, copy, bytes: FRAME_BYTES };
      pair.bytes += 4 * words(spec);
      pairs.set(key, pair);
    });
  }
  return [...pairs.values()];
}
