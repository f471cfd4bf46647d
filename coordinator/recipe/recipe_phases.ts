/**
 * The phases of a recipe, as TOML and as read: prepare, train, grow, upcycle, evaluate.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import { RecipeError } from "../errors.ts";

const positive = z.number().gt(0).refine(Number.isFinite, "must be finite");
const share = z.number().min(0).lt(1);
const count = z.int().min(1).max(0x7fff_ffff);
const seed = z.int().min(0).max(0xffff_ffff);
const coefficient = z.number().min(0).refine(Number.isFinite, "must be finite");

/** Sizes of a round, and who takes part in it: the same keys wherever workers compute. */
const round = {
  /** Sequences in a step. */
  batch: z.int().min(1).max(limits.batch * limits.microbatches),
  /** Parts into which a step's batch is cut to keep every stage busy; divides `batch`. */
  microbatches: z.int().min(1).max(limits.microbatches).default(1),
  /** Tokens in a sequence. */
  sequence: z.int().min(1).max(limits.sequence),
  /** What factors of matrix products are rounded to; sums, weights and everything else are f32. */
  precision: z.enum(["f32", "bf16"]).default("f32"),
  /** Pipeline stages in this phase, instead of [mesh] stages. */
  stages: count.max(limits.layers).optional(),
  /** Workers that hold experts but no layers in this phase, instead of [mesh] expert_hosts. */
  expert_hosts: z.int().min(0).max(limits.members).optional(),
};

/** Training. Its length is given in steps or in tokens. */
const TrainToml = z.strictObject({
  kind: z.literal("train"),
  /** Optimizer steps. */
  steps: count.optional(),
  /** Tokens to train on, instead of steps: rounded up to whole steps. */
  tokens: z.int().min(1).optional(),
  ...round,
  /** Highest learning rate. */
  learning_rate: positive,
  /** Steps in which the learning rate rises to its highest. */
  warmup: z.int().min(0).default(0),
  /** "wsd" (warm-up, stable, decay) stays at the highest rate and falls in a straight line at the end. */
  schedule: z.enum(["cosine", "constant", "wsd"]).default("cosine"),
  /** Share of the highest learning rate at which cosine and wsd end. */
  final_ratio: z.number().min(0).max(1).default(0.1),
  /** Share of the steps in which wsd falls. */
  decay: z.number().gt(0).max(1).default(0.2),
  weight_decay: z.number().min(0).default(0.1),
  beta1: share.default(0.9),
  beta2: share.default(0.95),
  epsilon: positive.default(1e-8),
  /** Largest norm of the whole gradient. */
  clip: positive.default(1),
  /** Coefficient of the balancing loss, instead of the model's. */
  router_aux_loss_coef: coefficient.optional(),
  /** Coefficient of the router's z-loss, instead of the model's. */
  router_z_loss_coef: coefficient.optional(),
  /** Over what experts are balanced: each microbatch, or the whole batch of the step before. */
  balancing: z.enum(["microbatch", "global"]).default("microbatch"),
  /**
   * Replicas train each for itself over its own share of every step, and only every so many steps exchange how far they have
   * come (DiLoCo). A replica that is late contributes what it has done.
   */
  local: z.strictObject({
    /** Steps between two exchanges; `steps`, `evaluate_every` and `checkpoint_every` are multiples of it. */
    every: count,
    /** Learning rate and Nesterov's momentum of the step that all replicas take together. */
    outer_learning_rate: positive.default(0.7),
    momentum: share.default(0.9),
    /** How long others are waited for once the first replica is done: this share of the time that it took. */
    patience: z.number().min(0).refine(Number.isFinite, "must be finite").default(1),
  }).optional(),
  /** Seed of the order of the data. */
  seed: seed.default(1),
  /** Steps between two validations; 0: only at the end. */
  evaluate_every: z.int().min(0).default(0),
  /** Batches of validation text in a validation; 0: none. */
  evaluate_batches: z.int().min(0).max(65_536).default(8),
  /** Steps between two checkpoints; 0: only at the end. */
  checkpoint_every: z.int().min(0).default(0),
  /**
   * Keep only the layers' inputs of the forward pass and compute the rest again: less memory, about a third more work, the
   * same bits. Where nothing is said: only if the model would not fit otherwise.
   */
  recompute: z.boolean().optional(),
});
/** A phase of training. Counts are in steps, sequences and tokens. */
export type TrainPhase = Omit<z.infer<typeof TrainToml>, "tokens" | "steps"> & { readonly steps: number };

/** A wider and deeper dense model out of a smaller one; see model/growth/growth_options.ts. */
const GrowToml = z.strictObject({
  kind: z.literal("grow"),
  hidden_size: count.optional(),
  intermediate_size: count.optional(),
  num_hidden_layers: count.max(limits.layers).optional(),
  num_attention_heads: count.optional(),
  num_key_value_heads: count.optional(),
  /** Gives a head of its own to a model whose embedding serves as head. */
  untie: z.boolean().default(false),
  method: z.enum(["fpi", "aki", "aki-pro", "aki-inner"]).default("fpi"),
  depth: z.enum(["interpolate", "stack", "identity"]).default("interpolate"),
  width: z.enum(["copies", "scaled-copies"]).default("copies"),
  spread: share.default(0),
  noise: coefficient.default(0),
  seed: seed.default(0),
});
/** A growth, as read. */
export type GrowPhase = z.infer<typeof GrowToml>;

/** A mixture of experts out of a dense model; see model/growth/upcycle.ts. */
const UpcycleToml = z.strictObject({
  kind: z.literal("upcycle"),
  num_local_experts: count.max(limits.experts).default(8),
  num_experts_per_tok: count.default(2),
  /** A shared expert beside the routed ones: its share of the output, or true for half. */
  shared_expert: z.union([z.boolean(), z.number().gt(0).lt(1)]).default(false),
  /** Standard deviation of the routers. */
  router_std: coefficient.default(0.02),
  noise: coefficient.default(0),
  drop: z.number().min(0).max(1).default(0),
  seed: seed.default(1),
  router_aux_loss_coef: coefficient.default(0.001),
  router_z_loss_coef: coefficient.default(0.01),
});
/** An upcycling, as read. */
export type UpcyclePhase = z.infer<typeof UpcycleToml>;

/** Validation without training, and tasks. */
const EvaluateToml = z.strictObject({
  kind: z.literal("evaluate"),
  ...round,
  /** Batches of validation text; 0: all of it. */
  batches: z.int().min(0).max(65_536).default(0),
  /** Files of choose tasks (see model/text/tasks.ts), no longer than `sequence`. */
  tasks: z.array(z.string().min(1)).default([]),
});
/** An evaluation, as read. */
export type EvaluatePhase = z.infer<typeof EvaluateToml>;

/** Text made from raw files before anything is trained: a file as `volary data prepare` reads it. */
const PrepareToml = z.strictObject({
  kind: z.literal("prepare"),
  /** The description of the data. */
  config: z.string().min(1),
});
/** A preparation of data, as read. */
export type PreparePhase = z.infer<typeof PrepareToml>;

/** What a phase may be, as TOML. */
export const PhaseToml = z.discriminatedUnion("kind", [
  PrepareToml,
  TrainToml,
  GrowToml,
  UpcycleToml,
  EvaluateToml,
]);

/** Any phase of a recipe. */
export type Phase = PreparePhase | TrainPhase | GrowPhase | UpcyclePhase | EvaluatePhase;
/** Phases that change the model and compute nothing. */
export type SwitchPhase = GrowPhase | UpcyclePhase;
/** Phases in which workers compute. */
export type ComputePhase = TrainPhase | EvaluatePhase;

/** Keys of each kind of phase, for messages. */
export const phaseKeys: Readonly<Record<Phase["kind"], readonly string[]>> = {
  prepare: Object.keys(PrepareToml.shape),
  train: Object.keys(TrainToml.shape),
  grow: Object.keys(GrowToml.shape),
  upcycle: Object.keys(UpcycleToml.shape),
  evaluate: Object.keys(EvaluateToml.shape),
};

/** Whether a phase changes the model. */
export function isSwitch(phase: Phase): phase is SwitchPhase {
  return phase.kind === "grow" || phase.kind === "upcycle";
}

/** Whether workers compute in a phase. */
export function isCompute(phase: Phase): phase is ComputePhase {
  return phase.kind === "train" || phase.kind === "evaluate";
}

/** Optimizer steps of a phase. */
export function stepsOf(phase: Phase): number {
  return phase.kind === "train" ? phase.steps : 0;
}

/** What the keys' own bounds cannot say. `index` is the phase's place, from 0. Throws {@linkcode RecipeError}. */
export function readPhase(toml: z.infer<typeof PhaseToml>, index: number): Phase {
  const at = `[[phase]] ${index + 1}`;
  if (toml.kind === "prepare" && index > 0) {
    throw new RecipeError(`${at}: text is prepared before anything else; make it the first phase.`);
  }
  if (toml.kind === "grow" || toml.kind === "upcycle" || toml.kind === "prepare") return toml;
  checkRound(at, toml);
  if (toml.kind === "evaluate") return toml;
  const { steps: given, tokens, ...rest } = toml;
  if ((given === undefined) === (tokens === undefined)) {
    throw new RecipeError(`${at}: give its length once, as steps or as tokens.`);
  }
  const steps = given ?? Math.ceil(tokens! / (toml.batch * toml.sequence));
  if (steps > 0x7fff_ffff) {
    throw new RecipeError(`${at}: ${tokens} tokens are ${steps} steps; at most ${0x7fff_ffff} are possible.`);
  }
  if (toml.warmup > steps) {
    throw new RecipeError(
      `${at}: a warm-up of ${toml.warmup} steps is longer than the phase (${steps} steps).`,
    );
  }
  if (toml.local !== undefined) checkLocal(at, { ...rest, steps }, toml.local.every);
  return { ...rest, steps };
}

/** Between two exchanges replicas differ: there is nothing to measure or to keep then. */
function checkLocal(at: string, phase: TrainPhase, every: number): void {
  if (phase.balancing === "global") {
    throw new RecipeError(
      `${at}: balancing = "global" needs the whole batch of every step, of which local replicas see their own share only: ` +
        `set balancing to "microbatch", or leave local out.`,
    );
  }
  for (const key of ["steps", "evaluate_every", "checkpoint_every"] as const) {
    if (phase[key] % every === 0) continue;
    throw new RecipeError(
      `${at}: ${key} = ${phase[key]} is no multiple of local.every = ${every}, and replicas are alike ` +
        `only every ${every} steps; ${Math.ceil(phase[key] / every) * every} would be.`,
    );
  }
}

function checkRound(at: string, phase: { batch: number; microbatches: number; sequence: number }): void {
  if (phase.batch % phase.microbatches !== 0) {
    const fits = divisors(phase.batch).filter((d) => d <= limits.microbatches);
    throw new RecipeError(
      `${at}: a batch of ${phase.batch} sequences cannot be cut into ${phase.microbatches} equal microbatches; ` +
        `${phase.batch} divides by ${fits.slice(0, 12).join(", ")}.`,
    );
  }
  const bytes = 4 * phase.batch * phase.sequence;
  if (phase.batch / phase.microbatches > limits.batch || bytes > limits.roundBytes) {
    throw new RecipeError(
      `${at}: ${phase.batch} sequences of ${phase.sequence} tokens in one step are more than the ` +
        `${limits.roundBytes / 4} tokens (and ${limits.batch} sequences in a microbatch) that a round ` +
        "may have.",
    );
  }
}

function divisors(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);
}

/**
 * Learning rate of step `step` (from 1) of a phase: linear warm-up, then constant, cosine to `final_ratio`, or wsd (Hu et
 * al., "MiniCPM", 2024): constant until the last `decay` of the steps, which fall linearly to `final_ratio`.
 */
export function learningRate(
  phase: Pick<TrainPhase, "steps" | "learning_rate" | "warmup" | "schedule" | "final_ratio" | "decay">,
  step: number,
): number {
  const { steps, learning_rate: highest, warmup, schedule, final_ratio: end } = phase;
  if (step <= warmup) return highest * step / warmup;
  if (schedule === "constant") return highest;
  if (schedule === "wsd") {
    const falling = Math.max(1, Math.round(phase.decay * steps)), left = steps - step;
    return left >= falling ? highest : highest * (end + (1 - end) * left / falling);
  }
  const rest = steps - warmup;
  const done = rest <= 1 ? 1 : (step - warmup - 1) / (rest - 1);
  const cosine = (1 + Math.cos(Math.PI * Math.min(1, done))) / 2;
  return highest * (end + (1 - end) * cosine);
}
