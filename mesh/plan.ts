/**
 * The plan: who holds which layers and experts, what crosses which link, and in what order each worker works.
 * Numbers and names only, so that it is a message. The planner writes it, workers run it, the simulator times it.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "./limits.ts";

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
  /** Report norms and losses, wait for the decision, apply it. */
  z.strictObject({ do: z.literal("vote") }),
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

/** The lists of a worker: one round of training, one of evaluation (forward only). */
export const Operations = z.strictObject({
  train: z.array(Operation).max(limits.operations),
  evaluate: z.array(Operation).max(limits.operations),
});

export const Plan = z.strictObject({
  run: z.string().max(limits.nameLength),
  /** Grows with every new plan of a run; whatever carries another number is dropped. */
  generation: index,
  /** The model's config.json as understood by model/config.ts. */
  model: z.record(z.string(), z.json()),
  shape: Shape,
  /** In order of the layers. */
  stages: z.array(Stage).min(1).max(limits.layers),
  /** Keep only each layer's input and compute the rest again in the backward pass. */
  recompute: z.boolean(),
  /** By worker; hosts that hold only experts have empty lists but for the vote. */
  operations: z.record(workerId, Operations),
});
export type Plan = z.infer<typeof Plan>;

/** What one worker needs of the plan: all stages (small), its own lists. */
export const Slice = Plan.omit({ operations: true }).extend({ self: workerId, operations: Operations });
export type Slice = z.infer<typeof Slice>;

/** The part of a plan that `worker` runs. */
export function sliceFor(plan: Plan, worker: string): Slice {
  const { operations, ...rest } = plan;
  const own = operations[worker];
  if (own === undefined) throw new Error(`Worker ${worker} has no part in generation ${plan.generation}`);
  return { ...rest, self: worker, operations: own };
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
export function links(stages: readonly Stage[]): [string, string][] {
  const pairs = new Map<string, [string, string]>();
  const add = (a: string, b: string) => {
    if (a === b) return;
    const pair: [string, string] = a < b ? [a, b] : [b, a];
    pairs.set(pair.join("\n"), pair);
  };
  stages.forEach((stage, s) => {
    if (s > 0) add(stages[s - 1].worker, stage.worker);
    for (const host of stage.experts.flat()) add(stage.worker, host);
  });
  const embedding = stages.find((stage) => stage.embedding), head = stages.find((stage) => stage.head);
  if (embedding && head) add(embedding.worker, head.worker); // tied weights may use it; harmless otherwise
  return [...pairs.keys()].sort().map((key) => pairs.get(key)!);
}
