/**
 * Recipes: what to train, on which text, in which phases. TOML for people, one schema, errors that say where.
 *
 * @module
 */
import { parse as parseToml } from "@std/toml";
import { z } from "zod";
import { limits } from "../mesh/limits.ts";
import { RecipeError } from "./errors.ts";
import { nearest } from "./nearest.ts";

const positive = z.number().gt(0).refine(Number.isFinite, "must be finite");
const share = z.number().min(0).lt(1);
const count = z.int().min(1).max(0x7fff_ffff);
const seed = z.int().min(0).max(0xffff_ffff);
const path = z.string().min(1);

/** A phase of training. Counts are in steps, sequences and tokens; see the defaults. */
export const TrainPhase = z.strictObject({
  kind: z.literal("train"),
  /** Optimizer steps. */
  steps: count,
  /** Sequences in a step. */
  batch: z.int().min(1).max(limits.batch * limits.microbatches),
  /** Parts into which a step's batch is cut to keep every stage busy; divides `batch`. */
  microbatches: z.int().min(1).max(limits.microbatches).default(1),
  /** Tokens in a sequence. */
  sequence: z.int().min(1).max(limits.sequence),
  /** Highest learning rate. */
  learning_rate: positive,
  /** Steps in which the learning rate rises to its highest. */
  warmup: z.int().min(0).default(0),
  schedule: z.enum(["cosine", "constant"]).default("cosine"),
  /** Share of the highest learning rate at which the cosine ends. */
  final_ratio: z.number().min(0).max(1).default(0.1),
  weight_decay: z.number().min(0).default(0.1),
  beta1: share.default(0.9),
  beta2: share.default(0.95),
  epsilon: positive.default(1e-8),
  /** Largest norm of the whole gradient. */
  clip: positive.default(1),
  /** Seed of the order of the data. */
  seed: seed.default(1),
  /** Steps between two validations; 0: only at the end. */
  evaluate_every: z.int().min(0).default(0),
  /** Batches of validation text in a validation; 0: none. */
  evaluate_batches: z.int().min(0).max(65_536).default(8),
  /** Steps between two checkpoints; 0: only at the end. */
  checkpoint_every: z.int().min(0).default(0),
  /** Keep only the layers' inputs of the forward pass and compute the rest again: less memory, about a third more work. */
  recompute: z.boolean().default(false),
});
export type TrainPhase = z.infer<typeof TrainPhase>;

const Data = z.strictObject({
  /** UTF-8 text files. */
  train: z.array(path).min(1),
  /** A share of the training texts' documents, or files of their own. */
  validation: z.union([z.number().gt(0).max(0.5), z.array(path).min(1)]).default(0.02),
  /** "bytes" or the path of a tokenizer.json; without it the model folder's own, and bytes for a fresh model. */
  tokenizer: path.optional(),
});

const Mesh = z.strictObject({
  /** Pipeline stages; chosen by the planner where it is not set. */
  stages: count.max(limits.layers).optional(),
  /** Workers that hold experts but no layers; chosen by the planner where it is not set. */
  expert_hosts: z.int().min(0).max(4_096).optional(),
});

const RecipeToml = z.strictObject({
  /** Names the run and its folder. */
  name: z.string().regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    "takes letters, digits, '.', '_' and '-', at most 64",
  ),
  /** `folder = "..."`, or the keys of a config.json for a fresh model and the `seed` of its weights. */
  model: z.record(z.string(), z.json()),
  data: Data,
  mesh: Mesh.default({}),
  phase: z.array(TrainPhase).min(1),
});

/** Where the first weights come from. */
export type ModelSource =
  | { readonly kind: "folder"; readonly folder: string }
  | { readonly kind: "fresh"; readonly seed: number; readonly config: Record<string, unknown> };

/** A recipe as read: paths are absolute, defaults filled in. */
export interface Recipe {
  readonly name: string;
  readonly model: ModelSource;
  readonly data: z.infer<typeof Data>;
  readonly mesh: z.infer<typeof Mesh>;
  readonly phases: readonly TrainPhase[];
}

/**
 * Reads a recipe. `resolve` turns its paths, which are relative to the recipe's folder, into absolute ones.
 * Throws {@linkcode RecipeError} with everything that is wrong, each with its place.
 */
export function parseRecipe(text: string, resolve: (path: string) => string): Recipe {
  let toml: Record<string, unknown>;
  try {
    toml = parseToml(text);
  } catch (error) {
    throw new RecipeError(`The recipe is not valid TOML: ${(error as Error).message}`);
  }
  const read = RecipeToml.safeParse(toml);
  if (!read.success) throw new RecipeError(explain(read.error.issues));
  const { model, data, phase, ...rest } = read.data;
  phase.forEach(checkPhase);
  return {
    ...rest,
    model: modelSource(model, resolve),
    data: {
      train: data.train.map(resolve),
      validation: typeof data.validation === "number" ? data.validation : data.validation.map(resolve),
      ...(data.tokenizer === undefined
        ? {}
        : { tokenizer: data.tokenizer === "bytes" ? "bytes" : resolve(data.tokenizer) }),
    },
    phases: phase,
  };
}

/** What the keys' own bounds cannot say. */
function checkPhase(phase: TrainPhase, index: number): void {
  const at = `[[phase]] ${index + 1}`;
  if (phase.batch % phase.microbatches !== 0) {
    const fits = divisors(phase.batch).filter((d) => d <= limits.microbatches);
    throw new RecipeError(
      `${at}: a batch of ${phase.batch} sequences cannot be cut into ${phase.microbatches} equal microbatches; ` +
        `${phase.batch} divides by ${fits.slice(0, 12).join(", ")}.`,
    );
  }
  if (phase.warmup > phase.steps) {
    throw new RecipeError(
      `${at}: a warm-up of ${phase.warmup} steps is longer than the phase (${phase.steps} steps).`,
    );
  }
  const bytes = 4 * phase.batch * phase.sequence;
  if (phase.batch / phase.microbatches > limits.batch || bytes > limits.roundBytes) {
    throw new RecipeError(
      `${at}: ${phase.batch} sequences of ${phase.sequence} tokens in one step are more than the ` +
        `${
          limits.roundBytes / 4
        } tokens (and ${limits.batch} sequences in a microbatch) that a round may have.`,
    );
  }
}

function modelSource(model: Record<string, unknown>, resolve: (path: string) => string): ModelSource {
  const { folder, seed: given, ...config } = model;
  if (folder !== undefined) {
    const others = Object.keys(model).filter((key) => key !== "folder");
    if (typeof folder !== "string" || folder === "") throw new RecipeError(`[model]: folder takes a path.`);
    if (others.length > 0) {
      throw new RecipeError(
        `[model]: folder = "${folder}" brings its own config.json; remove ${others.join(", ")}.`,
      );
    }
    return { kind: "folder", folder: resolve(folder) };
  }
  const own = seed.default(1).safeParse(given);
  if (!own.success) throw new RecipeError(`[model]: seed takes a whole number from 0 up to 4294967295.`);
  if (Object.keys(config).length === 0) {
    throw new RecipeError(
      `[model]: give folder = "..." or the keys of a config (hidden_size, num_hidden_layers, ...).`,
    );
  }
  return { kind: "fresh", seed: own.data, config };
}

const known: Record<string, readonly string[]> = {
  "": Object.keys(RecipeToml.shape),
  data: Object.keys(Data.shape),
  mesh: Object.keys(Mesh.shape),
  phase: Object.keys(TrainPhase.shape),
};

/** One line for everything that a schema refused: place, what stood there, what was meant. */
function explain(issues: readonly z.core.$ZodIssue[]): string {
  const lines = issues.flatMap((issue) => {
    const [section, ...more] = issue.path.map(String);
    const inPhase = section === "phase" && more.length > 0;
    const at = section === undefined
      ? "the recipe"
      : inPhase
      ? `[[phase]] ${Number(more[0]) + 1}`
      : section in known
      ? `[${section}]`
      : section;
    const key = (inPhase ? more.slice(1) : more).join(".");
    if (issue.code === "unrecognized_keys") {
      const names = known[section ?? ""] ?? [];
      return issue.keys.map((unknown) => {
        const near = nearest(unknown, names);
        return `${at}: there is no key "${unknown}"${
          near ? `; did you mean "${near}"?` : `. Known: ${names.join(", ")}.`
        }`;
      });
    }
    const message = issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
    return [`${at}${key ? `: ${key}` : ""}: ${message}.`];
  });
  return `The recipe cannot be run. ${lines.join(" ")}`;
}

function divisors(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);
}

/** Learning rate of step `step` (from 1) of a phase: linear warm-up, then cosine to `final_ratio` or constant. */
export function learningRate(phase: TrainPhase, step: number): number {
  if (step <= phase.warmup) return phase.learning_rate * step / phase.warmup;
  if (phase.schedule === "constant") return phase.learning_rate;
  const rest = phase.steps - phase.warmup;
  const done = rest <= 1 ? 1 : (step - phase.warmup - 1) / (rest - 1);
  const cosine = (1 + Math.cos(Math.PI * Math.min(1, done))) / 2;
  return phase.learning_rate * (phase.final_ratio + (1 - phase.final_ratio) * cosine);
}

/** Keys of a phase that may change when a run goes on: they say when to look and when to end, not what is computed. */
const changeable = ["steps", "evaluate_every", "evaluate_batches", "checkpoint_every"];

/**
 * Whether a run that was begun with one recipe may go on with another: only the mesh, the lengths of phases and what is
 * reported may differ. (A changed length changes the learning rates of a cosine that is still under way.)
 * Throws {@linkcode RecipeError} naming what differs.
 */
export function checkResume(begun: Recipe, now: Recipe): void {
  const flat = (recipe: Recipe) => {
    const { mesh: _, phases, ...rest } = recipe;
    const entries = new Map<string, string>();
    const walk = (value: unknown, at: string) => {
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const [key, inner] of Object.entries(value)) walk(inner, at ? `${at}.${key}` : key);
      } else entries.set(at, JSON.stringify(value));
    };
    walk(rest, "");
    phases.forEach((phase, p) => {
      for (const [key, value] of Object.entries(phase)) {
        if (!changeable.includes(key)) entries.set(`[[phase]] ${p + 1}: ${key}`, JSON.stringify(value));
      }
    });
    return entries;
  };
  const before = flat(begun), after = flat(now);
  const differs = [...new Set([...before.keys(), ...after.keys()])]
    .filter((key) => before.get(key) !== after.get(key));
  if (differs.length === 0) return;
  const list = differs.slice(0, 4).map((key) => `${key} (was ${before.get(key) ?? "absent"})`).join(", ");
  throw new RecipeError(
    `The run was begun with another recipe: ${list} ${
      differs.length === 1 ? "differs" : "differ"
    }. Resume with what it ` +
      `was begun with (a copy lies in the run's folder), or give the recipe another name and start anew.`,
  );
}
