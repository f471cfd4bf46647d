/**
 * How long a device needs for each part of a model, and a stage's passes as pieces of work: the cost model applied to a
 * cluster. The planner compares with it, the simulator runs on it.
 *
 * @module
 */
import { FRAME_BYTES } from "../../mesh/tensors/frame.ts";
import type { Shape } from "../../mesh/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { borderWords } from "../../model/layers/residual.ts";
import type { Precision } from "../../model/precision.ts";
import type { Cluster } from "./cluster.ts";
import {
  embeddingCosts,
  expertCosts,
  expertRows,
  gatherCost,
  headCosts,
  layerCosts,
  type PassCosts,
  secondsOf,
  stepCosts,
} from "./cost_model.ts";
import type { Part, Piece } from "../simulator/round.ts";
import { codecBytes, type LinkCodecs } from "./traffic.ts";

/** What is to be computed, where. */
export interface Setting {
  readonly config: ModelConfig;
  readonly shape: Shape;
  readonly recompute: boolean;
  readonly cluster: Cluster;
  /** How activations, gradients and rows are written on links. Default: f32 on all. */
  readonly codecs?: LinkCodecs;
  /** What factors of products are rounded to; it takes memory. Times are predicted as for f32. Default "f32". */
  readonly precision?: Precision;
  /** In which order passes come where each worker has one stage. Default "1f1b". */
  readonly schedule?: "1f1b" | "gpipe";
}

/** Seconds of a part's passes on one device. */
export interface PassSeconds {
  readonly forward: number;
  readonly input: number;
  readonly weight: number;
}

/** Seconds of one microbatch on one worker. */
export interface WorkerSeconds {
  readonly before: PassSeconds;
  readonly after: PassSeconds;
  /** What rows of another layer leave room for, of `before` forward and of `after` backward: attention with a ladder residual. */
  readonly hidden: PassSeconds;
  readonly embedding: PassSeconds;
  readonly head: PassSeconds;
  /** By number of experts: their rows alone, and bringing own rows together. */
  readonly experts: readonly PassSeconds[];
  readonly gather: readonly number[];
}

/** A stage for predictions: experts only by number, as all are asked equally often. */
export interface StageShape {
  /** Place in the cluster. */
  readonly worker: number;
  readonly embedding: boolean;
  readonly head: boolean;
  /** For each layer: how many of its experts other workers hold, as pairs of worker and number. */
  readonly remote: readonly (readonly (readonly [worker: number, experts: number])[])[];
}

/** Kinds of passes of a stage. */
export type StagePass = "forward" | "backward" | "backward-input" | "backward-weight";

/** Numbers as they are. */
const plain: LinkCodecs = () => "f32";

/** Answers how long things take; remembers what it worked out for each kind of device. */
export class Predictor {
  readonly #tokens: number;
  readonly #known: WorkerSeconds[] = [];
  readonly #byDevice = new Map<string, WorkerSeconds>();

  constructor(readonly setting: Setting) {
    const { shape } = setting;
    this.#tokens = shape.batch * shape.sequence;
  }

  /** Bytes of an activation or gradient on the link between two workers, its frame included. */
  activationBytes(a: number, b: number): number {
    const { config, codecs = plain } = this.setting;
    return FRAME_BYTES + codecBytes(borderWords(config, this.#tokens), codecs(a, b));
  }

  /** Seconds of the parts on a worker. */
  seconds(worker: number): WorkerSeconds {
    return this.#known[worker] ??= this.#work(worker);
  }

  #work(worker: number): WorkerSeconds {
    const { config, shape, cluster } = this.setting, { profile } = cluster.workers[worker];
    const key = `${profile.flops} ${profile.bandwidth} ${profile.launch} ${profile.read}`,
      known = this.#byDevice.get(key);
    if (known !== undefined) return known;
    const on = (costs: PassCosts): PassSeconds => ({
      forward: secondsOf(costs.forward, profile),
      input: secondsOf(costs.input, profile),
      weight: secondsOf(costs.weight, profile),
    });
    const layer = layerCosts(config, shape), T = this.#tokens;
    const numbers = Array.from({ length: config.experts + 1 }, (_, n) => n);
    const seconds = {
      before: on(layer.before),
      after: on(layer.after),
      hidden: config.ladderResidual ? on(layer.attention) : { forward: 0, input: 0, weight: 0 },
      embedding: on(embeddingCosts(config, T)),
      head: on(headCosts(config, T, true)),
      experts: numbers.map((n) => on(expertCosts(config, T, n))),
      gather: numbers.map((n) => secondsOf([gatherCost(config, T, n)], profile)),
    };
    this.#byDevice.set(key, seconds);
    return seconds;
  }

  /** Bytes of the rows for some experts of a layer on the link to their host, one way. */
  rowBytes(experts: number, worker: number, host: number): number {
    const { config, codecs = plain } = this.setting;
    return FRAME_BYTES + 4 * experts +
      codecBytes(expertRows(config, this.#tokens, experts) * config.hiddenSize, codecs(worker, host));
  }

  /** A host's seconds for a forward or a backward pass of some experts, until it answers. */
  guestSeconds(host: number, experts: number, forward: boolean): number {
    const { forward: again, input } = this.seconds(host).experts[experts];
    return forward ? again : input + (this.setting.recompute ? again : 0);
  }

  /** Its seconds behind the answer of a backward pass, for the gradients of the experts' weights. */
  owedSeconds(host: number, experts: number): number {
    return this.seconds(host).experts[experts].weight;
  }

  /** A stage's pass over one microbatch. Hosts do both halves of a backward pass whatever the stage does. */
  pieces(stage: StageShape, pass: StagePass): Piece[] {
    const times = this.seconds(stage.worker), { recompute, config } = this.setting;
    const pieces: Piece[] = [], forward = pass === "forward";
    const input = pass === "backward" || pass === "backward-input";
    const weight = pass === "backward" || pass === "backward-weight";
    const of = (part: PassSeconds) =>
      forward ? part.forward : (input ? part.input : 0) + (weight ? part.weight : 0);
    const { read = 0 } = this.setting.cluster.workers[stage.worker].profile;
    // With a ladder residual attention of the next layer of the pass computes while rows of this one are away.
    const hidden = of(times.hidden), last = stage.remote.length - 1;
    const plain = {
      before: of(times.before) - (forward ? hidden : 0),
      after: of(times.after) - (forward ? 0 : hidden),
    };
    let open = read + (forward && stage.embedding ? times.embedding.forward : 0) +
      (forward && last >= 0 ? hidden : 0);
    const layers = forward ? stage.remote : stage.remote.toReversed();
    for (const [i, remote] of layers.entries()) {
      const own = config.experts - remote.reduce((sum, [, experts]) => sum + experts, 0);
      const ownForward = config.experts > 0 ? times.gather[own] + times.experts[own].forward : 0;
      if (input && recompute) open += times.before.forward + ownForward + times.after.forward;
      open += plain.before;
      const meanwhile = (forward ? ownForward : config.experts > 0 ? of(times.experts[own]) : 0) +
        (forward ? (i < last ? hidden : 0) : (i > 0 ? hidden : 0));
      if (remote.length > 0 && (forward || input)) {
        const parts = remote.map(([host, experts]): Part => ({
          host,
          bytes: this.rowBytes(experts, stage.worker, host),
          seconds: this.guestSeconds(host, experts, forward),
          owed: forward ? 0 : this.owedSeconds(host, experts),
        }));
        pieces.push({ seconds: open, exchange: { meanwhile, parts } });
        open = read;
      } else open += meanwhile;
      open += plain.after;
    }
    if (!forward && last >= 0) open += hidden;
    if (forward && stage.head) open += times.head.forward;
    if (weight && stage.embedding) open += times.embedding.weight;
    pieces.push({ seconds: open });
    return pieces;
  }

  /** A worker's seconds behind the vote (and for the sums before it) with this many owned parameters. */
  stepSeconds(worker: number, parameters: number): number {
    const { vote, step } = stepCosts(parameters);
    return secondsOf([...vote, ...step], this.setting.cluster.workers[worker].profile);
  }

  /** Bytes of a tied embedding's gradient or weight, f32 whatever the codec. */
  get tiedBytes(): number {
    const { config } = this.setting;
    return FRAME_BYTES + 4 * config.vocabSize * config.hiddenSize;
  }
}
