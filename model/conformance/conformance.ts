/**
 * Training cases with known answers: a model, a batch, and what a float64 implementation found for logits, gradients,
 * losses, and the parameters after some steps.
 *
 * @module
 */
import type { Device } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import { LoadedModel, type Sequences } from "../layers/local_model.ts";
import { CheckpointError } from "../errors.ts";
import type { TensorSource } from "../source.ts";
import { elements, parameterTable } from "../tensors.ts";

/** f32 tensors by name. */
export type Tensors = ReadonlyMap<string, Float32Array<ArrayBuffer>>;

/** Tensors in memory as a source. @throws {CheckpointError} where one is missing or has another size. */
export function arraySource(config: ModelConfig, tensors: Tensors): TensorSource {
  for (const { name, shape } of parameterTable(config)) {
    const length = tensors.get(name)?.length;
    if (length !== elements(shape)) {
      throw new CheckpointError(
        `Tensor ${name} should be [${shape}], ${elements(shape)} values; ` +
          (length === undefined ? "there is none of that name." : `there are ${length}.`),
      );
    }
  }
  // A copy, since a device may keep or transfer what it is given.
  const read = (name: string, start: number, length: number) =>
    Promise.resolve(tensors.get(name)!.slice(start, start + length));
  return { config, read };
}

/** batch.json: equally long sequences of token ids, and labels already shifted; -100 does not count. */
export interface CaseBatch {
  readonly input_ids: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[];
}

/** A batch as a model takes it. */
export function packBatch({ input_ids, labels }: CaseBatch): {
  sequences: Sequences;
  labels: Uint32Array<ArrayBuffer>;
} {
  return {
    sequences: {
      ids: Uint32Array.from(input_ids.flat()),
      batch: input_ids.length,
      sequence: input_ids[0]?.length ?? 0,
    },
    labels: Uint32Array.from(labels.flat(), (label) => label < 0 ? 0xffffffff : label),
  };
}

/** A training case: config.json, weights.safetensors, batch.json, train.json and the expected answers. */
export interface TrainingCase {
  readonly config: ModelConfig;
  readonly weights: Tensors;
  readonly batch: CaseBatch;
  readonly train: {
    readonly lr: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weight_decay: number;
    readonly clip: number;
    readonly steps: number;
  };
  /** "logits", "grad.NAME" (before clipping) and "after.NAME" (after the steps). */
  readonly answers: Tensors;
  readonly expected: {
    readonly ce: number;
    readonly aux: number;
    readonly z: number;
    readonly total: number;
    readonly grad_norm: number;
    /** Total loss at each step. */
    readonly losses: readonly number[];
  };
}

/** What is compared: logits, gradients, parameters after the steps, scalars, tensors of a grown model. */
export type Kind = "logits" | "gradients" | "parameters" | "losses" | "tensors";

/** Largest accepted relative errors (L2 norm of the difference over that of the answer, for each tensor). */
export const conformanceLimits: Readonly<Record<Kind, number>> = {
  logits: 1e-5,
  gradients: 1e-4,
  parameters: 2e-3,
  losses: 1e-4,
  tensors: 1e-6,
};

/** The worst of a kind. */
export interface Worst {
  readonly error: number;
  readonly name: string;
}

/** What a case came to: the worst of each kind that it compares. */
export type Verdict = ReadonlyMap<Kind, Worst>;

/** Whether every kind is within its limit. */
export function passes(verdict: Verdict): boolean {
  return verdict.size > 0 && [...verdict].every(([kind, { error }]) => error <= conformanceLimits[kind]);
}

/**
 * L2 norm of the difference over that of `expected`. Infinite where lengths differ, a value is not finite, or
 * `expected` is all zero and `actual` is not exactly that.
 */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0, size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    size += expected[i] ** 2;
  }
  if (size === 0) return difference === 0 ? 0 : Infinity;
  const error = Math.sqrt(difference / size);
  return Number.isFinite(error) ? error : Infinity;
}

/** Runs a case on a device. */
export async function checkTrainingCase(device: Device, given: TrainingCase): Promise<Verdict> {
  const { config, weights, answers, expected, train } = given;
  const worst = new Tally();
  const { sequences, labels } = packBatch(given.batch);
  const names = parameterTable(config).map(({ name }) => name);
  const model = await LoadedModel.load(device, arraySource(config, weights), { training: true });
  try {
    worst.tensor("logits", "logits", await model.forwardLogits(sequences), find(answers, "logits"));
    const first = await model.gradients(sequences, labels);
    for (const name of names) {
      const gradient = await model.parameters.get(name, "gradient");
      worst.tensor("gradients", name, gradient, find(answers, `grad.${name}`));
    }
    model.parameters.clearGradients();
    worst.scalar("ce", first.ce, expected.ce);
    worst.scalar("aux", first.balance, expected.aux);
    worst.scalar("z", first.z, expected.z);
    for (let step = 1; step <= train.steps; step++) {
      const result = await model.step(sequences, labels, {
        learningRate: train.lr,
        beta1: train.beta1,
        beta2: train.beta2,
        epsilon: train.eps,
        weightDecay: train.weight_decay,
        clipNorm: train.clip,
        step,
      });
      worst.scalar(`loss of step ${step}`, result.total, expected.losses[step - 1]);
      if (step === 1) worst.scalar("norm of gradients", result.norm, expected.grad_norm);
    }
    for (const name of names) {
      const after = await model.parameters.get(name, "weight");
      worst.tensor("parameters", name, after, find(answers, `after.${name}`));
    }
  } finally {
    model.release();
  }
  return worst.verdict;
}

/** A tensor of a case by name. */
export function find(tensors: Tensors, name: string): Float32Array<ArrayBuffer> {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new CheckpointError(`The case has no tensor ${name}.`);
  return tensor;
}

/** Keeps the worst of each kind. */
export class Tally {
  readonly #worst = new Map<Kind, Worst>();

  tensor(kind: Kind, name: string, actual: Float32Array, expected: Float32Array): void {
    this.#add(kind, name, relativeError(actual, expected));
  }

  scalar(name: string, actual: number, expected: number): void {
    const error = expected === 0
      ? (actual === 0 ? 0 : Infinity)
      : Math.abs(actual - expected) / Math.abs(expected);
    this.#add("losses", name, Number.isFinite(error) ? error : Infinity);
  }

  #add(kind: Kind, name: string, error: number): void {
    const known = this.#worst.get(kind);
    if (known === undefined || error > known.error) this.#worst.set(kind, { error, name });
  }

  get verdict(): Verdict {
    return this.#worst;
  }
}
