/**
 * A pipeline divided in proportion: contiguous stages by measured speed, the experts of each layer over its own worker and the
 * workers that hold no layers.
 *
 * @module
 */
import type { Shape, Stage } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { unknownBandwidth } from "./codec_choice.ts";
import type { Candidate } from "./plan_request.ts";
import { deal, splitLayers } from "../cost/split.ts";

/** `holders`: the worker of each stage; `given`: the first layer of each and the end, where they are not chosen here. */
export function divide(
  config: ModelConfig,
  shape: Shape,
  holders: readonly Candidate[],
  hosts: readonly Candidate[],
  given?: readonly number[],
): Stage[] {
  const speeds = new Map([...holders, ...hosts].map((w) => [w.id, Math.max(1, w.profile.flops)]));
  const work = layerWork(config, shape.sequence);
  const total = [...speeds.values()].reduce((a, b) => a + b, 0);
  const own = [...new Set(holders)].reduce((sum, w) => sum + speeds.get(w.id)!, 0) / total;
  const layer = work.rest + work.experts * own;
  const borders = given ?? splitLayers(
    new Array<number>(config.layers).fill(layer),
    holders.map((w) => speeds.get(w.id)!),
    0,
    work.head,
  );
  const tokens = shape.batch * shape.sequence * shape.microbatches;
  // A multiplication and an addition, and twice as much again for the backward pass.
  const seconds = (worker: string, multiplications: number) =>
    6 * tokens * multiplications / speeds.get(worker)!;
  // Rows go out and come back in both passes.
  const bytes = 4 * tokens * config.expertsPerToken / Math.max(1, config.experts) * 4 * config.hiddenSize;
  const load = new Map<string, number>([...holders, ...hosts].map((worker) => [worker.id, 0]));
  holders.forEach((w, s) => {
    const head = s === holders.length - 1 ? work.head : 0;
    load.set(w.id, load.get(w.id)! + seconds(w.id, (borders[s + 1] - borders[s]) * work.rest + head));
  });
  const experts: string[][] = new Array(config.layers);
  const hostIds = hosts.map((host) => host.id);
  // In turn over the stages, so that no stage has used up the hosts before another gets its share.
  const depth = Math.max(...holders.map((_, s) => borders[s + 1] - borders[s]));
  for (let i = 0; i < depth; i++) {
    holders.forEach(({ id: owner }, s) => {
      const l = borders[s] + i;
      if (l >= borders[s + 1]) return;
      const counts = deal({
        experts: config.experts,
        owner,
        hosts: hostIds,
        compute: (worker) => seconds(worker, work.experts / config.experts),
        transfer: bytes / unknownBandwidth,
      }, load);
      experts[l] = [owner, ...hostIds].flatMap((worker, c) => new Array<string>(counts[c]).fill(worker));
    });
  }
  return holders.map((holder, s) => ({
    worker: holder.id,
    from: borders[s],
    to: borders[s + 1],
    embedding: s === 0,
    head: s === holders.length - 1,
    experts: experts.slice(borders[s], borders[s + 1]),
  }));
}

/** Multiplications for one token of the forward pass: a layer without its routed experts, all of those, the head. */
function layerWork(config: ModelConfig, sequence: number): { rest: number; experts: number; head: number } {
  const { hiddenSize: D, intermediateSize: F, heads, kvHeads, headDim } = config;
  const projections = D * headDim * (2 * heads + 2 * kvHeads);
  const attention = sequence * heads * headDim; // scores and values, half of them masked
  const mlp = 3 * D * F;
  const moe = config.experts > 0;
  return {
    rest: projections + attention + (moe ? D * (config.experts + 3 * config.sharedExpert) : mlp),
    experts: moe ? mlp * config.expertsPerToken : 0,
    head: D * config.vocabSize,
  };
}
