/**
 * Recipes: what to train, on which text, in which phases. TOML for people, one schema, errors that say where.
 *
 * @module
 */
import { parse as parseToml } from "@std/toml";
import { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import { CODECS } from "../../mesh/tensors/tensor_codec.ts";
import { RecipeError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import { scheduleNames } from "../schedule/schedules.ts";
import { type Phase, phaseKeys, PhaseToml, readPhase } from "./recipe_phases.ts";

const count = z.int().min(1).max(0x7fff_ffff);
const seed = z.int().min(0).max(0xffff_ffff);
const path = z.string().min(1);

/** Times that training may read its text: up to four readings are nearly as good as fresh text (Muennighoff et al. 2023). */
const defaultEpochs = 4;

const Data = z.strictObject({
  /** UTF-8 text files; none where shards are read. */
  train: z.array(path).default([]),
  /** A share of the training texts' documents (0.02 where nothing is said), or files of their own. */
  validation: z.union([z.number().gt(0).max(0.5), z.array(path).min(1)]).optional(),
  /** A folder that `volary data prepare` made, instead of text files. */
  shards: path.optional(),
  /** With shards: whether each sequence has a domain of its own ("sample"), or all of a microbatch share one. */
  mix: z.enum(["sample", "microbatch"]).optional(),
  /**
   * "bytes" or the path of a tokenizer.json; without it that of the shards or of the model's folder, and bytes for a fresh
   * model.
   */
  tokenizer: path.optional(),
  /** Times that all phases of training together may read the text. */
  epochs: z.number().gt(0).refine(Number.isFinite, "must be finite").default(defaultEpochs),
});

const Mesh = z.strictObject({
  /** Stages of each pipeline; chosen by the planner where it is not set. */
  stages: count.max(limits.layers).optional(),
  /** Workers of each pipeline that hold experts but no layers; chosen by the planner where it is not set. */
  expert_hosts: z.int().min(0).max(limits.members).optional(),
  /**
   * What activations, gradients and experts' rows are written in between workers: "f32" and "zstd" keep every bit; "bf16",
   * "f16" and "int8" are for slow links. Of several, such as ["f32", "bf16"], each link takes the one that is quickest on
   * it. Weights always travel exactly.
   */
  codec: z.union([z.enum(CODECS), z.array(z.enum(CODECS)).min(1).max(CODECS.length)]).optional(),
  /**
   * Pipelines that hold the whole model each and share every step's batch; one for each of `shares`, else one, where it is not
   * set. "auto": as many as are predicted to make the quickest step, with shares by their speed; the last bits of the weights
   * then depend on who is there.
   */
  replicas: z.union([count.max(limits.replicas), z.literal("auto")]).optional(),
  /**
   * The order of forward and backward passes: the fastest within memory where nothing is said. "interleaved" and "zero-bubble-v" give each
   * worker two stages, which `stages` counts one by one. The weights do not depend on it.
   */
  schedule: z.enum(scheduleNames).optional(),
  /**
   * Stages that each microbatch visits in training, the first always (SkipPipe): less work a step, and a model that also
   * works with layers missing. Which ones depends on `stages`, which should then be set; stages have equal numbers of layers
   * and may be more than the workers. Validation visits all.
   */
  visits: count.max(limits.layers).optional(),
  /**
   * Microbatches of each share of a step; their gradients are accumulated apart and added in this order. The weights depend
   * on it in their last bits, and on nothing else of the mesh.
   */
  shares: z.array(count.max(limits.microbatches)).min(1).max(limits.replicas).optional(),
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
  phase: z.array(PhaseToml).min(1),
});

/** Where the first weights come from. */
export type ModelSource =
  | { readonly kind: "folder"; readonly folder: string }
  | { readonly kind: "fresh"; readonly seed: number; readonly config: Record<string, unknown> };

/** Documents kept for validation where a recipe does not say. */
const defaultValidation = 0.02;

/** A recipe as read: paths are absolute, defaults filled in. */
export interface Recipe {
  readonly name: string;
  readonly model: ModelSource;
  readonly data: Omit<z.infer<typeof Data>, "validation"> & {
    readonly validation: number | readonly string[];
  };
  readonly mesh: z.infer<typeof Mesh>;
  readonly phases: readonly Phase[];
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
  if (!read.success) throw new RecipeError(explain(read.error.issues, toml));
  const { model, data, phase, ...rest } = read.data;
  checkData(data);
  const { validation = defaultValidation } = data;
  return {
    ...rest,
    model: modelSource(model, resolve),
    data: {
      ...data,
      train: data.train.map(resolve),
      validation: typeof validation === "number" ? validation : validation.map(resolve),
      ...(data.shards === undefined ? {} : { shards: resolve(data.shards) }),
      ...(data.tokenizer === undefined
        ? {}
        : { tokenizer: data.tokenizer === "bytes" ? "bytes" : resolve(data.tokenizer) }),
    },
    phases: phase.map(readPhase).map((read) => {
      if (read.kind === "prepare") return { ...read, config: resolve(read.config) };
      return read.kind === "evaluate" ? { ...read, tasks: read.tasks.map(resolve) } : read;
    }),
  };
}

/** Text files or shards, not both. */
function checkData({ train, validation, shards, mix }: z.infer<typeof Data>): void {
  if (shards === undefined) {
    if (train.length === 0) {
      throw new RecipeError(
        `[data]: give train = ["..."] (text files), or shards = "..." (what volary data prepare made).`,
      );
    }
    if (mix !== undefined) {
      throw new RecipeError(`[data]: mix is about the domains of shards; text files have none.`);
    }
    return;
  }
  const both = train.length > 0 ? "train" : validation !== undefined ? "validation" : undefined;
  if (both === undefined) return;
  throw new RecipeError(
    `[data]: shards bring their own text for training and validation; remove ${both}, or shards.`,
  );
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
};

/** One line for everything that a schema refused: place, what stood there, what was meant. */
function explain(issues: readonly z.core.$ZodIssue[], toml: Record<string, unknown>): string {
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
      const names = (inPhase ? keysOf(toml, Number(more[0])) : known[section ?? ""]) ?? [];
      return issue.keys.map((unknown) => {
        const near = nearest(unknown, names);
        return `${at}: there is no key ` +
          `"${unknown}"${near ? `; did you mean "${near}"?` : `. Known: ${names.join(", ")}.`}`;
      });
    }
    if (inPhase && key === "kind") {
      return [`${at}: kind is one of ${Object.keys(phaseKeys).join(", ")}.`];
    }
    const message = issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
    return [`${at}${key ? `: ${key}` : ""}: ${message}.`];
  });
  return `The recipe cannot be run. ${lines.join(" ")}`;
}

/** Keys of the phase at a place, as far as its kind tells. */
function keysOf(toml: Record<string, unknown>, index: number): readonly string[] | undefined {
  const { kind } = (toml.phase as Record<string, unknown>[])[index];
  return typeof kind === "string" && Object.hasOwn(phaseKeys, kind)
    ? phaseKeys[kind as Phase["kind"]]
    : undefined;
}
