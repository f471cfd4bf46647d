/**
 * What no round of several pipelines can beat, in closed form: the slowest pipeline's passes, then the way of the gradients to
 * the pipelines that own their tensors and of the weights back.
 *
 * @module
 */
import { FRAME_BYTES } from "../../mesh/tensors/frame.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { Cluster } from "../cost/cluster.ts";
import type { Division } from "./division.ts";
import { shareOwnership } from "../cost/holdings.ts";
import { partSizes } from "../cost/memory_model.ts";

/** A pipeline's division for its share of a round, and the least that its passes take. */
export interface TeamDivision {
  readonly division: Division;
  /** The worker of each stage by its place in the whole cluster. */
  readonly holders: readonly number[];
  /** As `Judge.leastPasses` says. */
  readonly least: number;
  readonly ends: readonly number[];
}

/** Judges combinations of pipelines over one cluster. */
export class ReplicaBound {
  readonly #cluster: Cluster;
  /** Bytes of the embedding, of each layer without its routed experts, and of the end. */
  readonly #bytes: readonly number[];
  readonly #owners = new Map<number, readonly number[]>();

  constructor(private readonly config: ModelConfig, cluster: Cluster) {
    this.#cluster = cluster;
    const { embedding, layer, head } = partSizes(config);
    this.#bytes = [embedding, ...new Array<number>(config.layers).fill(layer), head].map((words) =>
      4 * words
    );
  }

  /** Seconds; Infinity where workers that must exchange tensors have no link. */
  seconds(pipelines: readonly TeamDivision[]): number {
    const count = pipelines.length, workers = this.#cluster.workers.length, bytes = this.#bytes;
    let owners = this.#owners.get(count);
    if (owners === undefined) this.#owners.set(count, owners = shareOwnership(this.config, count));
    let arrived = 0, back = 0;
    for (const { least } of pipelines) arrived = Math.max(arrived, least);
    // The stage of each pipeline at the place, and the layers of it that are left.
    const stage = new Array<number>(count).fill(0),
      left = pipelines.map(({ division }) => division[0].layers);
    const pairs = new Map<number, { bytes: number; end: number }>();
    for (let place = 0; place < bytes.length; place++) {
      const inside = place > 0 && place < bytes.length - 1;
      for (let p = 0; inside && p < count; p++) {
        if (left[p] === 0) left[p] = pipelines[p].division[++stage[p]].layers;
        left[p]--;
      }
      if (bytes[place] === 0) continue;
      const own = owners[place], owner = pipelines[own].holders[stage[own]];
      for (let p = 0; p < count; p++) {
        if (p === own) continue;
        const key = pipelines[p].holders[stage[p]] * workers + owner, pair = pairs.get(key);
        if (pair === undefined) {
          pairs.set(key, { bytes: FRAME_BYTES + bytes[place], end: pipelines[p].ends[stage[p]] });
        } else pair.bytes += bytes[place];
      }
    }
    for (const [key, { bytes, end }] of pairs) {
      const copy = Math.floor(key / workers), owner = key % workers;
      arrived = Math.max(arrived, end + this.#hop(copy, owner, bytes));
      back = Math.max(back, this.#hop(owner, copy, bytes));
    }
    return arrived + back;
  }

  #hop(from: number, to: number, bytes: number): number {
    const link = this.#cluster.link(from, to), { workers } = this.#cluster;
    if (link === undefined) return Infinity;
    return link.latency + bytes / Math.min(link.bandwidth, workers[from].up, workers[to].down);
  }
}
