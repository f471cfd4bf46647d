/**
 * What a division of a model over a cluster takes in time and memory.
 *
 * @module
 */
import type { Division, Part } from "./division.ts";
import { borderWords } from "../../model/layers/residual.ts";
import { jobOf } from "./division_job.ts";
import {
  copyBytes,
  type GuestWords,
  guestWords,
  headWords,
  layerWords,
  ownedBytes,
  packedBytes,
  partSizes,
  tiedGradientBytes,
} from "../cost/memory_model.ts";
import { Predictor, type Setting } from "../cost/predict.ts";
import { type Action, type Keeps, mostKept } from "../schedule/schedules.ts";
import { simulate } from "../simulator/simulator.ts";
import type { Timeline } from "../simulator/round.ts";

/** Device memory for each byte in use: a pool rounds sizes up (by an eighth at most) and cannot reuse every hole. */
const poolSlack = 1.1;

/** Seconds of a stage's passes when nobody is late: own work and waiting for its hosts. */
interface Pace {
  readonly forward: number;
  readonly backward: number;
}

/** Judges divisions of one model over one cluster, under one-forward-one-backward or GPipe. */
export class Judge {
  readonly predictor: Predictor;
  readonly #sizes;
  readonly #tokens: number;
  readonly #hops = new Map<number, number>();
  readonly #kept: { readonly kept: number; readonly working: number; readonly halved: number }[];
  readonly #guests: readonly GuestWords[];
  readonly #head: { readonly kept: number; readonly working: number };

  constructor(readonly setting: Setting) {
    const { config, shape, recompute } = setting;
    this.predictor = new Predictor(setting);
    this.#sizes = partSizes(config);
    this.#tokens = shape.batch * shape.sequence;
    const counts = Array.from({ length: config.experts + 1 }, (_, n) => n);
    this.#kept = counts.map((own) => layerWords(config, shape, own, recompute));
    this.#guests = counts.map((n) => guestWords(config, this.#tokens, n, recompute));
    this.#head = headWords(config, this.#tokens);
  }

  /** Seconds of `bytes` from one worker to another on free links; Infinity where there is no link. */
  hop(from: number, to: number, bytes: number): number {
    if (from === to) return 0;
    const { cluster } = this.setting, link = cluster.link(from, to);
    if (link === undefined) return Infinity;
    const rate = Math.min(link.bandwidth, cluster.workers[from].up, cluster.workers[to].down);
    return link.latency + bytes / rate;
  }

  /** Seconds of an activation or gradient from one worker to another on free links. */
  activationHop(from: number, to: number): number {
    const key = from * this.setting.cluster.workers.length + to;
    let seconds = this.#hops.get(key);
    if (seconds === undefined) {
      this.#hops.set(key, seconds = this.hop(from, to, this.predictor.activationBytes(from, to)));
    }
    return seconds;
  }

  /** Experts of each layer that the stage's own worker holds. */
  own(part: Part): number {
    let own = this.setting.config.experts;
    for (const [, experts] of part.remote) own -= experts;
    return own;
  }

  #pace(part: Part, first: boolean, last: boolean): Pace {
    const { config, recompute } = this.setting;
    const { before, after, hidden, embedding, head, experts, gather } = this.predictor.seconds(part.worker);
    const own = this.own(part);
    let visitForward = 0, visitBackward = 0, ownForward = 0;
    if (config.experts > 0) {
      ownForward = gather[own] + experts[own].forward;
      visitForward = ownForward + hidden.forward;
      visitBackward = experts[own].input + experts[own].weight + hidden.input + hidden.weight;
      for (const [host, n] of part.remote) {
        const bytes = this.predictor.rowBytes(n, part.worker, host);
        const way = this.hop(part.worker, host, bytes) + this.hop(host, part.worker, bytes);
        visitForward = Math.max(visitForward, way + this.predictor.guestSeconds(host, n, true));
        visitBackward = Math.max(visitBackward, way + this.predictor.guestSeconds(host, n, false));
      }
    }
    const again = recompute ? before.forward + ownForward + after.forward : 0;
    const forward = before.forward - hidden.forward + visitForward + after.forward;
    const backward = again + before.input + before.weight + visitBackward + after.input + after.weight -
      hidden.input - hidden.weight;
    return {
      forward: part.layers * forward + (first ? embedding.forward : 0) + (last ? head.forward : 0),
      backward: part.layers * backward + (first ? embedding.weight : 0),
    };
  }

  /**
   * Seconds that no round of this division can beat: {@linkcode passesBound}, the optimizer's step, and a tied weight's way.
   */
  bound(division: Division): number {
    const stages = division.length, passes = this.passesBound(division);
    const first = division[0].worker,
      last = division[stages - 1].worker,
      tied = this.setting.config.tiedEmbeddings;
    // Embedding and head have a link even where they are not tied (see links() in mesh/plan.ts).
    const way = this.hop(first, last, this.predictor.tiedBytes), between = tied || way === Infinity ? way : 0;
    let step = 0;
    for (const [worker, parameters] of this.parameters(division)) {
      const seconds = this.predictor.stepSeconds(worker, parameters);
      step = Math.max(step, worker === first ? seconds + between : seconds);
    }
    return Number.isFinite(passes) ? passes + step : Infinity;
  }

  /**
   * Seconds up to the vote that no round of this division can beat: for each stage the way of the first microbatch to it,
   * its own work (or, where longer, the trips of as many microbatches as it may have under way at once) and the way of the
   * last gradient back; for each host its work.
   */
  passesBound(division: Division): number {
    return this.leastPasses(division).least;
  }

  /** {@linkcode passesBound}, and for each stage the seconds up to the end of its last pass, which nothing can beat either. */
  leastPasses(division: Division): { readonly least: number; readonly ends: readonly number[] } {
    const { shape: { microbatches: m } } = this.setting, stages = division.length;
    const paces = division.map((part, s) => this.#pace(part, s === 0, s === stages - 1));
    if (!paces.every(({ forward, backward }) => Number.isFinite(forward + backward))) {
      return { least: Infinity, ends: [] };
    }
    // Behind a stage: the trip of a microbatch to the end and back.
    const trips = new Array<number>(stages).fill(0), hops = new Array<number>(stages).fill(0);
    for (let s = stages - 2; s >= 0; s--) {
      hops[s] = this.activationHop(division[s].worker, division[s + 1].worker);
      const back = this.activationHop(division[s + 1].worker, division[s].worker);
      trips[s] = trips[s + 1] + hops[s] + back + paces[s + 1].forward + paces[s + 1].backward;
    }
    const ends: number[] = [];
    let longest = 0, fill = 0, drain = 0;
    for (let s = 0; s < stages; s++) {
      const { forward, backward } = paces[s], depth = this.#depth(stages - s);
      const work = m * (forward + backward);
      const turns = Math.floor((m - 1) / depth);
      const waiting = (turns + 1) * (forward + trips[s] + backward) + (m - 1 - turns * depth) * backward;
      ends.push(fill + Math.max(work, waiting));
      longest = Math.max(longest, ends[s] + drain);
      fill += forward + hops[s];
      if (s < stages - 1) drain += backward + this.activationHop(division[s + 1].worker, division[s].worker);
    }
    const guests = new Map<number, number>();
    for (const part of division) {
      for (const [host, n] of part.remote) {
        const work = this.predictor.guestSeconds(host, n, true) +
          this.predictor.guestSeconds(host, n, false) +
          this.predictor.owedSeconds(host, n);
        guests.set(host, (guests.get(host) ?? 0) + m * part.layers * work);
      }
    }
    for (const work of guests.values()) longest = Math.max(longest, work);
    return { least: longest, ends };
  }

  /** Microbatches that a stage may have under way at once, by its place from the end (1 for the last). */
  #depth(fromEnd: number): number {
    const { shape: { microbatches }, schedule } = this.setting;
    return schedule === "gpipe" ? microbatches : Math.min(microbatches, fromEnd);
  }

  /** Owned parameters by worker. */
  parameters(division: Division): Map<number, number> {
    const owned = new Map<number, number>(), sizes = this.#sizes;
    const add = (worker: number, parameters: number) =>
      owned.set(worker, (owned.get(worker) ?? 0) + parameters);
    division.forEach((part, s) => {
      add(part.worker, part.layers * (sizes.layer + this.own(part) * sizes.expert));
      if (s === 0) add(part.worker, sizes.embedding);
      if (s === division.length - 1) add(part.worker, sizes.head);
      for (const [host, n] of part.remote) add(host, part.layers * n * sizes.expert);
    });
    return owned;
  }

  /**
   * Bytes of device memory by worker: owned parameters, what microbatches under way keep, and room to work. Passes
   * come in the given orders of work, one for each worker with stages, of which it may then have several; by default in
   * those of the setting's schedule.
   */
  memory(division: Division, orders?: readonly (readonly Action[])[]): Map<number, number> {
    const { config, precision } = this.setting, stages = division.length;
    const bytes = new Map<number, number>();
    const each = ownedBytes + (precision === "bf16" ? packedBytes : 0);
    for (const [worker, parameters] of this.parameters(division)) {
      bytes.set(worker, poolSlack * each * parameters);
    }
    const add = (worker: number, more: number) => bytes.set(worker, bytes.get(worker)! + poolSlack * more);
    const room = new Map<number, number>();
    division.forEach((part, s) => {
      const order = orders?.find((order) => order.some(({ stage }) => stage === s))
        ?.filter(({ stage }) => stage === s);
      const inFlight = order ? mostKept(order, () => ({ kept: 1, halved: 0 })) : this.#depth(stages - s);
      const own = this.#kept[this.own(part)], head = s === stages - 1;
      if (!orders) add(part.worker, 4 * inFlight * (part.layers * own.kept + (head ? this.#head.kept : 0)));
      // Buffers of one transfer each way beside the passes.
      add(
        part.worker,
        4 * Math.max(own.working, head ? this.#head.working : 0) + 8 * borderWords(config, this.#tokens),
      );
      if (config.tiedEmbeddings && head) {
        add(
          part.worker,
          (part.worker === division[0].worker ? tiedGradientBytes : copyBytes) * config.vocabSize *
            config.hiddenSize,
        );
      }
      for (const [host, n] of part.remote) {
        add(host, 4 * inFlight * part.layers * this.#guests[n].kept);
        // A host works on rows of one asker, and owes gradients of weights to each other one at most.
        const { working, owed } = this.#guests[n];
        room.set(host, Math.max(room.get(host) ?? 0, 4 * (working - owed)));
        add(host, 4 * owed);
      }
    });
    for (const [host, more] of room) add(host, more);
    for (const order of orders ?? []) {
      add(division[order[0].stage].worker, 4 * mostKept(order, (s) => this.#keeps(division, s)));
    }
    return bytes;
  }

  /** Words that a stage keeps of a microbatch. */
  #keeps(division: Division, s: number): Keeps {
    const part = division[s], own = this.#kept[this.own(part)];
    return {
      kept: part.layers * own.kept + (s === division.length - 1 ? this.#head.kept : 0),
      // The embedding's gradient waits for the second half too.
      halved: part.layers * own.halved + (s === 0 ? this.#tokens * this.setting.config.hiddenSize : 0),
    };
  }

  /** Words that a layer of a stage keeps of a microbatch, and takes while it works. */
  kept(part: Part): { readonly kept: number; readonly working: number; readonly halved: number } {
    return this.#kept[this.own(part)];
  }

  /** Bytes beyond what the workers lend, all together; 0 where the division fits. */
  shortage(division: Division): number {
    const { workers } = this.setting.cluster;
    let short = 0;
    for (const [worker, bytes] of this.memory(division)) {
      short += Math.max(0, bytes - workers[worker].profile.memory);
    }
    return short;
  }

  /** The simulated round: passes in the given orders, as for {@linkcode memory}. */
  simulate(division: Division, orders?: readonly (readonly Action[])[]): Timeline {
    return simulate(jobOf(this.predictor, this.parameters(division), division, orders));
  }
}
