/**
 * Turning every MLP of a dense model into a mixture of experts.
 *
 * Each expert is a copy of the MLP; gate weights sum to 1, so the logits stay the same for any router (Komatsuzaki et al.,
 * "Sparse Upcycling", 2022; Zhang et al., "AquilaMoE", 2024). Optional noise, or Drop-Upcycling, break the experts'
 * symmetry at the price of the function. An optional shared expert, one more copy that every token visits, takes a share s
 * of the output and leaves 1 - s to the routed ones: y = s mlp(h) + (1 - s) mlp(h). The two factors are multiplied into the
 * down projections, exactly for s = 0.5 and otherwise with one rounding of each weight.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { checkConfig, plainestType } from "../config.ts";
import { ConfigError, GrowthError } from "../errors.ts";
import { drawNormal, initialDeviation } from "../init.ts";
import type { TensorSource } from "../source.ts";
import { elements, parameterTable, type TensorSpec } from "../tensors.ts";
import { redrawNeurons } from "./upcycle_drop.ts";

/** How a dense model becomes a mixture of experts. */
export interface UpcycleOptions {
  /** Of everything that is drawn. */
  readonly seed: number;
  /** Standard deviation of the routers; 0.02 unless given. */
  readonly routerDeviation?: number;
  /** Routers to use instead of drawing them: by name of the gate, [experts, hidden]. */
  readonly router?: ReadonlyMap<string, Float32Array>;
  /** Standard deviation of normal noise on every expert's weights; none unless given. */
  readonly noise?: number;
  /** Drop-Upcycling: share of each expert's neurons that are drawn anew; none unless given. */
  readonly drop?: number;
  /** Share of the output that the shared expert takes over, above 0 and below 1; 0.5 unless given. */
  readonly share?: number;
}

/** Share of a shared expert unless another is given: the one for which halving rounds nothing. */
export const defaultShare = 0.5;

/** What the mixture of experts is to be. */
export interface ExpertShape {
  readonly experts: number;
  readonly expertsPerToken: number;
  /** A shared expert as wide as the MLP; none unless given. */
  readonly shared?: boolean;
  /** 0.001 unless given, as AquilaMoE's. */
  readonly balanceCoefficient?: number;
  /** 0.01 unless given, as AquilaMoE's. */
  readonly zCoefficient?: number;
}

/**
 * The configuration of an upcycled model: `source` with experts, as the family that has such models (mixtral, or
 * aquilamoe where q, k and v have biases; volary with a shared expert; a volary model stays one).
 *
 * @throws {GrowthError} if the source has experts already or the numbers do not fit.
 */
export function upcycledConfig(source: ModelConfig, shape: ExpertShape): ModelConfig {
  if (source.experts > 0) {
    throw new GrowthError(`The model has ${source.experts} experts already; only dense models are upcycled.`);
  }
  const target: ModelConfig = {
    ...source,
    experts: shape.experts,
    expertsPerToken: shape.expertsPerToken,
    sharedExpert: shape.shared ? source.intermediateSize : 0,
    balanceCoefficient: shape.balanceCoefficient ?? 0.001,
    zCoefficient: shape.zCoefficient ?? 0.01,
  };
  const modelType = source.modelType === "volary" ? "volary" : plainestType(target);
  checkTarget(target);
  return { ...target, modelType };
}

/** @throws {GrowthError} saying what does not fit, and what would. */
function checkUpcycle(source: ModelConfig, target: ModelConfig, options: UpcycleOptions): void {
  if (source.experts > 0) {
    throw new GrowthError(`The model has ${source.experts} experts already; only dense models are upcycled.`);
  }
  checkTarget(target);
  for (
    const key of [
      "hiddenSize",
      "intermediateSize",
      "layers",
      "heads",
      "kvHeads",
      "headDim",
      "vocabSize",
      "rmsNormEps",
      "ropeTheta",
      "attentionBias",
      "tiedEmbeddings",
    ] as const
  ) {
    if (source[key] !== target[key]) {
      throw new GrowthError(
        `Upcycling keeps everything but the MLPs, so ${key} must stay ${source[key]} and cannot become ` +
          `${target[key]}. Grow the dense model first.`,
      );
    }
  }
  const { drop = 0, noise = 0, routerDeviation = initialDeviation } = options;
  if (!(drop >= 0 && drop <= 1)) {
    throw new GrowthError(`The share of neurons to draw anew is ${drop}; 0 to 1 is possible.`);
  }
  if (!(noise >= 0 && noise < Infinity)) {
    throw new GrowthError(`The noise is ${noise}; it must be a number of at least 0.`);
  }
  if (!(routerDeviation >= 0 && routerDeviation < Infinity)) {
    throw new GrowthError(
      `The router's standard deviation is ${routerDeviation}; it must be a number of at least 0.`,
    );
  }
  checkShared(source, target, options.share);
  checkRouter(target, options.router);
}

/**
 * The upcycled model as a source of its own. Copies are read through, with noise or without; for Drop-Upcycling one tensor
 * is held at a time.
 *
 * @throws {GrowthError} see `checkUpcycle`.
 */
export function upcycleModel(
  source: TensorSource,
  target: ModelConfig,
  options: UpcycleOptions,
): TensorSource {
  checkUpcycle(source.config, target, options);
  const specs = new Map(parameterTable(target).map((spec) => [spec.name, spec]));
  const { drop = 0, seed } = options;
  // The last expert tensor with redrawn neurons: it is read in pieces, but made whole.
  let last: { name: string; words: Promise<Float32Array<ArrayBuffer>> } | undefined;
  return {
    config: target,
    async read(name, start, length) {
      const spec = specs.get(name);
      if (spec === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
      const from = denseName(spec);
      if (from === undefined) return router(spec, options, start, length);
      const factor = outputFactor(spec, target, options);
      if (spec.expert === undefined) return scaled(await source.read(from, start, length), factor);
      if (drop === 0) {
        return withNoise(name, start, scaled(await source.read(from, start, length), factor), options);
      }
      if (last?.name !== name) {
        last = {
          name,
          words: source.read(from, 0, elements(spec.shape)).then((copied) => {
            const words = scaled(copied, factor);
            redrawNeurons(spec, words, drop, seed);
            return words;
          }),
        };
      }
      return withNoise(name, start, (await last.words).slice(start, start + length), options);
    },
  };
}

/** The dense tensor that a tensor of an upcycled model is made from; none for a router. */
export function denseName(spec: TensorSpec): string | undefined {
  if (spec.role === "router") return undefined;
  const leaf = /^(?:expert|shared)-(gate|up|down)$/.exec(spec.role)?.[1];
  return leaf === undefined ? spec.name : `model.layers.${spec.layer}.mlp.${leaf}_proj.weight`;
}

/** What a tensor's values are multiplied by so that shared and routed experts together give what the MLP gave. */
function outputFactor(
  { role }: TensorSpec,
  { sharedExpert }: ModelConfig,
  { share = defaultShare }: UpcycleOptions,
): number {
  if (sharedExpert === 0) return 1;
  return role === "shared-down" ? share : role === "expert-down" ? 1 - share : 1;
}

/** Each product rounded once, from f64. */
function scaled(words: Float32Array<ArrayBuffer>, factor: number): Float32Array<ArrayBuffer> {
  return factor === 1 ? words : words.map((word) => word * factor);
}

function router(
  spec: TensorSpec,
  options: UpcycleOptions,
  start: number,
  length: number,
): Float32Array<ArrayBuffer> {
  const given = options.router?.get(spec.name);
  if (given !== undefined) return Float32Array.from(given.subarray(start, start + length));
  return drawNormal(options.seed, spec.name, start, length, options.routerDeviation ?? initialDeviation);
}

/** Elements `start`.. of an expert's tensor with their noise, which depends on the seed, the name and the place only. */
function withNoise(
  name: string,
  start: number,
  words: Float32Array<ArrayBuffer>,
  { seed, noise = 0 }: UpcycleOptions,
): Float32Array<ArrayBuffer> {
  if (noise === 0) return words;
  const drawn = drawNormal(seed, `noise ${name}`, start, words.length, noise);
  return drawn.map((value, i) => words[i] + value);
}

function checkTarget(target: ModelConfig): void {
  if (target.experts < 1 || !Number.isInteger(target.experts)) {
    throw new GrowthError(
      `An upcycled model needs at least 1 expert (num_local_experts), not ${target.experts}.`,
    );
  }
  try {
    checkConfig(target);
  } catch (error) {
    throw error instanceof ConfigError
      ? new GrowthError(`The upcycled model does not fit itself: ${error.message}`)
      : error;
  }
}

function checkShared(source: ModelConfig, target: ModelConfig, share: number | undefined): void {
  if (target.sharedExpert === 0) {
    if (share === undefined) return;
    throw new GrowthError(
      `A share of ${share} is given for a shared expert, but the upcycled model is to have none: ask for the shared ` +
        `expert as well, or give no share.`,
    );
  }
  if (target.sharedExpert !== source.intermediateSize) {
    throw new GrowthError(
      `The shared expert is a copy of the MLP, so its width must be ${source.intermediateSize} and cannot be ` +
        `${target.sharedExpert}.`,
    );
  }
  if (share !== undefined && !(share > 0 && share < 1)) {
    throw new GrowthError(
      `The shared expert's share is ${share}; it must lie above 0 and below 1, so that shared and routed experts both ` +
        `take part.`,
    );
  }
}

function checkRouter(target: ModelConfig, given: ReadonlyMap<string, Float32Array> | undefined): void {
  if (given === undefined) return;
  for (const { role, name, shape } of parameterTable(target)) {
    if (role !== "router") continue;
    const words = given.get(name);
    if (words === undefined) {
      throw new GrowthError(`The given routers lack ${name}: give one for every layer, or none.`);
    }
    if (words.length !== elements(shape)) {
      throw new GrowthError(
        `The given router ${name} has ${words.length} values; [${shape.join(", ")}] is needed.`,
      );
    }
  }
}
