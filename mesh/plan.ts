/**
 * The plan: who holds which layers and experts, what crosses which link, and in what order each worker works.
 * Numbers and names only, so that it is a message. The planner writes it, workers run it, the simulator times it.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "./limits.ts";
import { CODECS } from "./tensors/tensor_codec.ts";

const index = z.int().min(0).max(0xffff_ffff);
const workerId = z.string().min(1).max(limits.nameLength);

/** A span of layers [from, to) on one worker, with or without the embedding before and the head behind it. */
export const Stage = z.strictObject({
  worker: workerId,
  from: index,
  to: index,
  embedding: z.boolean(),
  head: z.boolean(),
  /** For each layer of the span, in order: the worker of each expert (empty for a dense layer). */
  experts: z.array(z.array(workerId).max(limits.experts)).max(limits.layers),
});
export type Stage = z.infer<typeof Stage>;

/**
 * One operation of a worker. `send` and `receive` name what goes and the stage at the other end; everything else
 * names the worker's own stage. Operations start in the listed order; a send does not wait for its arrival.
 */
export const Operation = z.discriminatedUnion("do", [
  z.strictObject({ do: z.literal("forward"), stage: index, microbatch: index }),
  z.strictObject({ do: z.literal("backward"), stage: index, microbatch: index }),
  /** A backward pass in two halves: the gradient of the stage's input, for which the stage before waits ... */
  z.strictObject({ do: z.literal("backward-input"), stage: index, microbatch: index }),
  /** ... and the gradients of the weights, for which nobody does. */
  z.strictObject({ do: z.literal("backward-weight"), stage: index, microbatch: index }),
  /**
   * A share of the round is complete: its gradients become part of the pipeline's sum, and those of the next share are
   * accumulated apart from it.
   */
  z.strictObject({ do: z.literal("fold") }),
  /**
   * Between pipelines: gradients go to the pipeline that owns their tensors, which adds those of all pipelines to its own
   * in the pipelines' order.
   */
  z.strictObject({ do: z.literal("reduce") }),
  /** Report norms and losses, wait for the decision, apply it. */
  z.strictObject({ do: z.literal("vote") }),
  /** Between pipelines: updated weights go from the pipeline that owns them to all others. */
  z.strictObject({ do: z.literal("spread") }),
  /**
   * Where pipelines train locally, and only where the decision says so: how far each has come goes to the owners, whose
   * steps everyone takes over.
   */
  z.strictObject({ do: z.literal("outer") }),
  z.discriminatedUnion("what", [
    z.strictObject({
      do: z.enum(["send", "receive"]),
      what: z.enum(["activation", "gradient"]),
      /** The worker's own stage. */
      stage: index,
      /** The stage at the other end. */
      peer: index,
      microbatch: index,
    }),
    /**
     * `tied-gradient`: of a tied embedding; the head's stage sends, the embedding's receives and adds (head first).
     * `tied-weight`: the updated embedding goes back to the head's stage.
     */
    z.strictObject({
      do: z.enum(["send", "receive"]),
      what: z.enum(["tied-gradient", "tied-weight"]),
      stage: index,
      peer: index,
    }),
  ]),
]);
export type Operation = z.infer<typeof Operation>;

/** Sizes of one round, the same for every stage. */
export const Shape = z.strictObject({
  /** Sequences in a microbatch. */
  batch: z.int().min(1).max(limits.batch),
  /** Tokens in a sequence. */
  sequence: z.int().min(1).max(limits.sequence),
  /** Microbatches in a round. */
  microbatches: z.int().min(1).max(limits.microbatches),
});
export type Shape = z.infer<typeof Shape>;

/**
 * A whole model on workers of its own: one replica. A round's microbatches go to the pipelines in order, each gets as many
 * as its shares say; gradients of a share are added in order of the microbatches, shares in order of the pipelines:
 * ((first + second) + third). Only the first pipeline may have several shares, or that order could not be kept.
 */
export const Pipeline = z.strictObject({
  /** Microbatches of each share. */
  shares: z.array(z.int().min(1).max(limits.microbatches)).min(1).max(limits.replicas),
  /** In order of the layers; operations count them from 0. */
  stages: z.array(Stage).min(1).max(limits.layers),
});
export type Pipeline = z.infer<typeof Pipeline>;

/** The lists of a worker: one round of training, one of evaluation (forward only). */
const Operations = z.strictObject({
  train: z.array(Operation).max(limits.operations),
  evaluate: z.array(Operation).max(limits.operations),
});

/** What activations, gradients and experts' rows are written in on the link between two workers. */
export const LinkCodec = z.strictObject({ workers: z.tuple([workerId, workerId]), codec: z.enum(CODECS) });
export type LinkCodec = z.infer<typeof LinkCodec>;

/** Who computes what in which order; see the module's description. */
export const Plan = z.strictObject({
  run: z.string().max(limits.nameLength),
  /** Grows with every new plan of a run; whatever carries another number is dropped. */
  generation: index,
  /** The model's config.json as understood by model/config.ts. */
  model: z.record(z.string(), z.json()),
  shape: Shape,
  /** A worker has a part in one of them only. */
  pipelines: z.array(Pipeline).min(1).max(limits.replicas),
  /**
   * For the embedding, each layer and the end of the model, in this order: the pipeline that owns its tensors. It adds up
   * their gradients, votes on them and steps them; the others keep copies of the weights.
   */
  owners: z.array(index).min(3).max(limits.layers + 2),
  /**
   * Pipelines train locally: each votes, clips and steps for itself over its own microbatches and keeps all its tensors'
   * moments; from time to time they take an outer step together, over which the owners have the say.
   */
  local: z.optional(z.strictObject({
    learningRate: z.number().gt(0).refine(Number.isFinite),
    momentum: z.number().min(0).lt(1),
  })),
  /** Keep only each layer's input and compute the rest again in the backward pass. */
  recompute: z.boolean(),
  /** What factors of matrix products are rounded to (model/precision.ts); f32 where nothing is said. */
  precision: z.enum(["f32", "bf16"]).optional(),
  /** Codecs of links between two workers; f32 where nothing is said. Weights travel exactly over all of them. */
  codecs: z.array(LinkCodec).max(limits.codecs).optional(),
  /** By worker; hosts that hold only experts have empty lists but for the vote. */
  operations: z.record(workerId, Operations),
});
export type Plan = z.infer<typeof Plan>;

/** What one worker needs of the plan: the stages of its own pipeline, its own lists, and the others where there are any. */
export const Slice = Plan.omit({ operations: true, pipelines: true, owners: true }).extend({
  self: workerId,
  operations: Operations,
  stages: Pipeline.shape.stages,
  /** Present where a round has several shares; `own` is the place of the worker's pipeline. */
  replication: z.optional(Plan.pick({ pipelines: true, owners: true }).extend({ own: index })),
});
export type Slice = z.infer<typeof Slice>;

/** The part of a plan that `worker` runs. */
export function sliceFor(plan: Plan, worker: string): Slice {
  const { operations, pipelines, owners, ...rest } = plan;
  const own = operations[worker], place = pipelineOf(pipelines, worker);
  if (own === undefined || place < 0) {
    throw new Error(`Worker ${worker} has no part in generation ${plan.generation}`);
  }
  const several = pipelines.length > 1 || pipelines[0].shares.length > 1;
  return {
    ...rest,
    self: worker,
    operations: own,
    stages: pipelines[place].stages,
    ...(several ? { replication: { pipelines, owners, own: place } } : {}),
  };
}

/** The place of the pipeline in which a worker holds layers or experts; -1 where it has no part. */
export function pipelineOf(pipelines: readonly Pipeline[], worker: string): number {
  return pipelines.findIndex(({ stages }) =>
    stages.some((stage) => stage.worker === worker || stage.experts.some((hosts) => hosts.includes(worker)))
  );
}

/** First microbatch of a pipeline, and of the one after it. */
export function microbatchesOf(pipelines: readonly Pipeline[], place: number): { from: number; to: number } {
  const count = (pipeline: Pipeline) => pipeline.shares.reduce((sum, share) => sum + share, 0);
  const from = pipelines.slice(0, place).reduce((sum, pipeline) => sum + count(pipeline), 0);
  return { from, to: from + count(pipelines[place]) };
}

/** The microbatches of a slice's own pipeline. */
export function ownMicrobatches({ shape, replication }: Slice): { from: number; to: number } {
  if (replication === undefined) return { from: 0, to: shape.microbatches };
  return microbatchesOf(replication.pipelines, replication.own);
}

/**
 * The worker that holds a tensor in one pipeline: by layer (-1 the embedding, the number of layers the end), and by expert
 * where it is one's.
 */
export function holderOf(stages: readonly Stage[], layer: number, expert?: number): string {
  const stage = layer < 0
    ? stages.find((each) => each.embedding)
    : stages.find((each) => each.from <= layer && layer < each.to) ?? stages.find((each) => each.head);
  if (stage === undefined) throw new RangeError(`No stage of the pipeline holds layer ${layer}`);
  return expert === undefined ? stage.worker : stage.experts[layer - stage.from]?.[expert] ?? stage.worker;
}

/** Expert ids by layer that `worker` hosts, layers in order; both its own stages' and other stages' layers. */
export function hostedExperts(stages: readonly Stage[], worker: string): Map<number, number[]> {
  const hosted = new Map<number, number[]>();
  for (const stage of stages) {
    stage.experts.forEach((hosts, i) => {
      const mine = hosts.flatMap((host, expert) => host === worker ? [expert] : []);
      if (mine.length > 0) hosted.set(stage.from + i, mine);
    });
  }
  return hosted;
}

/** Pairs of workers that exchange tensors under this plan, each pair once, in a stable order. */
export function links(
  { pipelines, owners, operations = {} }:
    & Pick<Plan, "pipelines" | "owners">
    & Partial<Pick<Plan, "operations">>,
): [string, string][] {
  const pairs = new Map<string, [string, string]>();
  const add = (a: string, b: string) => {
    if (a === b) return;
    const pair: [string, string] = a < b ? [a, b] : [b, a];
    pairs.set(pair.join("\n"), pair);
  };
  for (const { stages } of pipelines) {
    stages.forEach((stage, s) => {
      if (s > 0) add(stages[s - 1].worker, stage.worker);
      for (const host of stage.experts.flat()) add(stage.worker, host);
    });
    const embedding = stages.find((stage) => stage.embedding), head = stages.find((stage) => stage.head);
    if (embedding && head) add(embedding.worker, head.worker); // tied weights may use it; harmless otherwise
  }
  // Microbatches may leave stages out: their operations say where they go.
  for (const [worker, { train }] of Object.entries(operations)) {
    const stages = pipelines[pipelineOf(pipelines, worker)]?.stages ?? [];
    for (const operation of train) {
      if ("peer" in operation && stages[operation.peer]) add(worker, stages[operation.peer].worker);
    }
  }
  // What one pipeline owns the others have copies of.
  owners.forEach((owner, place) => {
    const layer = place - 1, { stages } = pipelines[owner];
    const stage = stages.find((each) => each.from <= layer && layer < each.to);
    const experts = stage?.experts[layer - stage.from] ?? [];
    pipelines.forEach((pipeline, p) => {
      if (p === owner) return;
      add(holderOf(stages, layer), holderOf(pipeline.stages, layer));
      experts.forEach((host, expert) => add(host, holderOf(pipeline.stages, layer, expert)));
    });
  });
  return [...pairs.keys()].sort().map((key) => pairs.get(key)!);
}

/** {@linkcode links} of a slice: those of all workers where there are several pipelines, else of its one. */
export function sliceLinks({ self, operations, stages, shape, replication }: Slice): [string, string][] {
  const all = replication ?? { pipelines: [{ shares: [shape.microbatches], stages }], owners: [] };
  return links({ ...all, operations: { [self]: operations } });
}
