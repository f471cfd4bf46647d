/**
 * Training rounds over several `LocalCompute`s in one thread, without a network: what the mesh does, by hand.
 *
 * @module
 */
import type { Device } from "../../kernels/mod.ts";
import type { Slice, Stage } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { Lease } from "../../model/lease.ts";
import { clipFactor, type GradientSize } from "../../model/layers/optimizer.ts";
import { randomStream } from "../../model/random.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import type { Exchange } from "../../worker/compute.ts";
import { LocalCompute } from "../../worker/local_compute.ts";

/** A model small enough to train in a test, with Hugging Face keys. */
export const SMALL = {
  hidden_size: 20,
  intermediate_size: 12,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  vocab_size: 31,
  rms_norm_eps: 1e-5,
  rope_theta: 1e4,
  attention_bias: true,
  tie_word_embeddings: false,
};

/** Keys that make it a mixture of experts. */
export const EXPERTS = {
  num_local_experts: 4,
  num_experts_per_tok: 2,
  router_aux_loss_coef: 0.01,
  router_z_loss_coef: 0.001,
};

/** A run. */
export interface SmallRun {
  readonly model: Slice["model"];
  readonly stages: readonly Stage[];
  readonly steps: number;
  readonly recompute?: boolean;
  /**
   * Forward passes of all microbatches before the first backward pass, stages working at the same time on neighbouring
   * microbatches, instead of one pass after the other.
   */
  readonly pipelined?: boolean;
  /** Called for every exchange of rows; may wait. */
  readonly onExchange?: (exchange: Exchange) => Promise<void> | void;
  /** Called after every step. */
  readonly afterStep?: (step: number) => void;
}

/** What a run came to: everything that must not depend on the partition. */
export interface Outcome {
  /** Of each step: cross-entropy, balancing loss, z-loss, sums of squares by tensor. */
  readonly steps: { ce: number; balance: number; z: number; sizes: GradientSize[] }[];
  /** Losses of an evaluation at the end. */
  readonly evaluated: { ce: number; balance: number; z: number };
  readonly weights: Map<string, Float32Array>;
}

const SHAPE = { batch: 2, sequence: 9, microbatches: 3 };
/** Labels that count in a round: one of each microbatch does not. */
const VALID = SHAPE.microbatches * (SHAPE.batch * SHAPE.sequence - 1);
const DECISION = { learningRate: 0.02, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

/** Sequences of one microbatch and the tokens that follow. */
function data(step: number, microbatch: number, vocabulary: number) {
  const draw = randomStream(7, "data", step, microbatch);
  const count = SHAPE.batch * SHAPE.sequence;
  const ids = Uint32Array.from({ length: count }, () => draw.integer(vocabulary));
  const labels = Uint32Array.from({ length: count }, () => draw.integer(vocabulary));
  labels[microbatch] = 0xffffffff;
  return { ids, labels };
}

/** Runs the steps and an evaluation on one device. */
export async function run(device: Device, given: SmallRun): Promise<Outcome> {
  const config = parseConfig(given.model);
  const stages = [...given.stages];
  const names = [...new Set(stages.flatMap((stage) => [stage.worker, ...stage.experts.flat()]))];
  const computes = new Map<string, LocalCompute>();
  const exchanger = async (exchange: Exchange) => {
    await given.onExchange?.(exchange);
    return await Promise.all(exchange.parts.map(async ({ host, counts, rows }) => {
      const { layer, microbatch, pass, mode } = exchange, compute = computes.get(host)!;
      const answer = await compute.host({ layer, microbatch, pass, mode, part: { counts, rows } });
      if (pass === "backward") await compute.hostWeights(layer, microbatch);
      return answer;
    }));
  };
  for (const self of names) {
    const compute = new LocalCompute({ device: new Lease(device), exchanger, now: () => 0, memory: 1 << 30 });
    computes.set(self, compute);
    const held = await compute.load({
      run: "test",
      generation: 1,
      model: given.model,
      shape: SHAPE,
      stages,
      recompute: given.recompute ?? false,
      self,
      operations: { train: [], evaluate: [] },
    });
    for (const { name, shape } of held) {
      const draw = randomStream(3, name);
      const base = name.includes("norm") ? 1 : 0;
      const words = Float32Array.from({ length: elements(shape) }, () => base + 0.2 * draw.normal());
      await compute.put(name, "weight", 0, words);
    }
  }
  try {
    const round = new Round(computes, stages, config.vocabSize, config.tiedEmbeddings);
    const steps: Outcome["steps"] = [];
    for (let step = 1; step <= given.steps; step++) {
      steps.push(await round.train(step, given.pipelined ?? false));
      given.afterStep?.(step);
    }
    const evaluated = await round.evaluate(given.steps + 1);
    const weights = new Map<string, Float32Array>();
    for (const { name, shape } of parameterTable(config)) {
      weights.set(name, await round.owner(name).get(name, "weight", 0, elements(shape)));
    }
    return { steps, evaluated, weights };
  } finally {
    for (const compute of computes.values()) compute.close();
  }
}

class Round {
  constructor(
    private readonly computes: ReadonlyMap<string, LocalCompute>,
    private readonly stages: readonly Stage[],
    private readonly vocabulary: number,
    private readonly tied: boolean,
  ) {}

  /** Who owns a tensor of the model. */
  owner(name: string): LocalCompute {
    const layer = Number(/layers\.(\d+)\./.exec(name)?.[1] ?? NaN);
    const expert = Number(/experts\.(\d+)\./.exec(name)?.[1] ?? NaN);
    const stage = this.stages.find((stage) =>
      Number.isNaN(layer)
        ? (name.includes("embed") ? stage.embedding : stage.head)
        : stage.from <= layer && layer < stage.to
    )!;
    const worker = Number.isNaN(expert) ? stage.worker : stage.experts[layer - stage.from][expert];
    return this.computes.get(worker)!;
  }

  /** Sends all microbatches through all stages in the order given, each stage as soon as its input is there. */
  async #wave(
    order: readonly number[],
    count: number,
    pass: (
      stage: number,
      microbatch: number,
      input: ArrayBuffer | undefined,
    ) => Promise<ArrayBuffer | undefined>,
  ) {
    const between = new Map<string, ArrayBuffer | undefined>();
    for (let tick = 0; tick < order.length + count - 1; tick++) {
      await Promise.all(order.map(async (stage, place) => {
        const microbatch = tick - place;
        if (microbatch < 0 || microbatch >= count) return;
        const output = await pass(stage, microbatch, between.get(`${place - 1} ${microbatch}`));
        between.set(`${place} ${microbatch}`, output);
      }));
    }
  }

  async #forward(
    stage: number,
    step: number,
    microbatch: number,
    mode: "train" | "evaluate",
    activation: ArrayBuffer | undefined,
  ) {
    const { ids, labels } = data(step, microbatch, this.vocabulary);
    const { worker, embedding, head } = this.stages[stage];
    return await this.computes.get(worker)!.forward({
      stage,
      microbatch,
      mode,
      ids: embedding ? ids : undefined,
      labels: head ? labels : undefined,
      activation,
      validLabels: VALID,
    });
  }

  async #finish() {
    const result = { ce: 0, balance: 0, z: 0, sizes: [] as GradientSize[] };
    for (const compute of this.computes.values()) {
      const { losses, tensors } = await compute.finish();
      for (const { ce, balance, z } of losses) {
        result.ce += ce;
        result.balance += balance;
        result.z += z;
      }
      result.sizes.push(...tensors);
    }
    return result;
  }

  async train(step: number, pipelined: boolean): Promise<Outcome["steps"][number]> {
    const down = this.stages.map((_, stage) => stage), up = down.toReversed();
    const rounds = pipelined ? [0] : Array.from({ length: SHAPE.microbatches }, (_, m) => m);
    for (const first of rounds) {
      const count = pipelined ? SHAPE.microbatches : 1;
      await this.#wave(down, count, (stage, m, x) => this.#forward(stage, step, first + m, "train", x));
      await this.#wave(
        up,
        count,
        (stage, m, dy) => this.computes.get(this.stages[stage].worker)!.backward(stage, first + m, dy),
      );
    }
    const first = this.computes.get(this.stages[0].worker)!;
    const last = this.computes.get(this.stages[this.stages.length - 1].worker)!;
    const shared = this.tied && first !== last;
    if (shared) await first.addTiedGradient(await last.takeTiedGradient());
    const result = await this.#finish();
    const order = (a: GradientSize, b: GradientSize) => a.name < b.name ? -1 : 1;
    result.sizes.sort(order);
    const { clip } = clipFactor(result.sizes, 1);
    for (const compute of this.computes.values()) {
      await compute.step({ ...DECISION, commit: true, clip, step });
    }
    if (shared) {
      const name = "model.embed_tokens.weight";
      await last.put(
        name,
        "weight",
        0,
        await first.get(name, "weight", 0, this.vocabulary * SMALL.hidden_size),
      );
    }
    return result;
  }

  async evaluate(step: number): Promise<Outcome["evaluated"]> {
    const down = this.stages.map((_, stage) => stage);
    await this.#wave(
      down,
      SHAPE.microbatches,
      (stage, m, x) => this.#forward(stage, step, m, "evaluate", x),
    );
    const { ce, balance, z } = await this.#finish();
    return { ce, balance, z };
  }
}
