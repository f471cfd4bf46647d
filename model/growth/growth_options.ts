/**
 * What a growth is asked to do, what it may be asked, and what it will mean.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { ConfigError, GrowthError } from "../errors.ts";
import { checkConfig } from "../config.ts";
import { countParameters } from "../tensors.ts";

/** How a model is grown. */
export interface GrowthOptions {
  /**
   * "fpi" (function-preserving initialisation) makes each layer from itself. "aki" (advanced knowledge initialisation)
   * takes the rows of new units from the layer above. "aki-inner" does so for heads and MLP neurons only and leaves the
   * rows that write into the residual stream to the layer itself.
   */
  readonly method: "fpi" | "aki" | "aki-inner";
  /**
   * Which source layer a layer copies: "interpolate" floor(l L / L2), "stack" l mod L, "identity" as interpolate, but
   * repeats write nothing (zero o and down), so that the function stays.
   */
  readonly depth: "interpolate" | "stack" | "identity";
  /** "scaled-copies" keeps the function at every width; "copies" only where the hidden size is an integer multiple. */
  readonly width: "copies" | "scaled-copies";
  /**
   * Breaks the symmetry between copies without changing the function: the shares in which readers divide a copied unit
   * differ by up to this part (0 to below 1), drawn from `seed`. 0 or absent: equal shares.
   */
  readonly spread?: number;
  /**
   * The same by addition: standard deviation of normal noise on what reads copied units, paired so that it cancels over
   * the copies of each unit. Unlike `spread` it parts them for every reader in another direction. 0 or absent: none.
   */
  readonly noise?: number;
  /** Of everything that is drawn; 0 unless given. */
  readonly seed?: number;
}

const methods = ["fpi", "aki", "aki-inner"] as const;
const depths = ["interpolate", "stack", "identity"] as const;
const widths = ["copies", "scaled-copies"] as const;

/**
 * Options from plain values such as those of a recipe; "aki-pro" is the paper's name for AKI with interpolation. (Heads
 * always grow inside their key/value groups.)
 *
 * @throws {GrowthError} naming the value that is not known.
 */
export function parseGrowthOptions(value: Readonly<Record<string, unknown>>): GrowthOptions {
  const unknown = Object.keys(value).find((key) =>
    !["method", "depth", "width", "spread", "noise", "seed"].includes(key)
  );
  if (unknown !== undefined) throw new GrowthError(`A growth has no option ${unknown}.`);
  const choose = <T extends string>(key: string, allowed: readonly T[], fallback: T): T => {
    const given = value[key] ?? fallback;
    const found = allowed.find((name) => name === given);
    if (found !== undefined) return found;
    throw new GrowthError(
      `The growth's ${key} is ${JSON.stringify(given)}; known are ${allowed.join(", ")}.`,
    );
  };
  const pro = value.method === "aki-pro";
  const depth = choose("depth", depths, "interpolate");
  if (pro && depth !== "interpolate") {
    throw new GrowthError(`AKI-Pro interpolates in depth; for ${depth} choose the method aki.`);
  }
  const spread = value.spread ?? 0, noise = value.noise ?? 0, seed = value.seed ?? 0;
  if (typeof spread !== "number" || !(spread >= 0 && spread < 1)) {
    throw new GrowthError(
      `The growth's spread is ${JSON.stringify(spread)}; it must be at least 0 and below 1.`,
    );
  }
  if (typeof noise !== "number" || !(noise >= 0 && noise < Infinity)) {
    throw new GrowthError(
      `The growth's noise is ${JSON.stringify(noise)}; it must be a number of at least 0.`,
    );
  }
  if (typeof seed !== "number" || !Number.isSafeInteger(seed)) {
    throw new GrowthError(`The growth's seed is ${JSON.stringify(seed)}; it must be a whole number.`);
  }
  return {
    method: pro ? "aki" : choose("method", methods, "fpi"),
    depth,
    width: choose("width", widths, "copies"),
    spread,
    noise,
    seed,
  };
}

/** @throws {GrowthError} saying what cannot be done, why, and what would work. */
export function checkGrowth(source: ModelConfig, target: ModelConfig): void {
  try {
    checkConfig(target);
  } catch (error) {
    if (error instanceof ConfigError) {
      throw new GrowthError(`The target of the growth does not fit itself: ${error.message}`);
    }
    throw error;
  }
  if (source.experts > 0 || target.experts > 0) {
    throw new GrowthError(
      "Only dense models are grown: experts would have to be grown one by one. Grow the dense model first, then upcycle it.",
    );
  }
  for (
    const [key, what] of [
      ["hiddenSize", "hidden size"],
      ["intermediateSize", "MLP width"],
      ["heads", "number of query heads"],
      ["layers", "number of layers"],
    ] as const
  ) {
    if (target[key] < source[key]) {
      throw new GrowthError(
        `Cannot shrink the ${what} from ${source[key]} to ${target[key]}: growing copies units and ` +
          `drops none. Choose at least ${source[key]}.`,
      );
    }
  }
  const same = (key: keyof ModelConfig, what: string, why: string) => {
    if (target[key] !== source[key]) {
      throw new GrowthError(
        `Cannot change the ${what} from ${source[key]} to ${target[key]}: ${why}. Keep ${source[key]}.`,
      );
    }
  };
  same("headDim", "head size", "rotary embedding turns fixed pairs inside a head, so whole heads are copied");
  same("vocabSize", "vocabulary", "the tokenizer stays the same");
  same("attentionBias", "biases on q, k and v", "there would be none to copy, or no place for them");
  same("rmsNormEps", "norm's epsilon", "the copied gains belong to it");
  same("ropeTheta", "rotary base", "the copied heads were trained with it");
  if (!source.tiedEmbeddings && target.tiedEmbeddings) {
    throw new GrowthError("Cannot tie embedding and head that differ: keep tie_word_embeddings false.");
  }
  checkHeads(source, target);
}

function checkHeads(source: ModelConfig, target: ModelConfig): void {
  if (target.kvHeads === source.kvHeads) return;
  const multi = source.kvHeads === source.heads;
  if (multi && target.kvHeads === target.heads) return;
  const groups = (n: number) => `${n} ${n === 1 ? "group" : "groups"}`;
  throw new GrowthError(
    `Cannot grow ${source.heads} heads in ${groups(source.kvHeads)} to ${target.heads} in ` +
      `${groups(target.kvHeads)}: query heads are copied inside their key/value group, so the target ` +
      `must keep the source's ${groups(source.kvHeads)} (num_key_value_heads)` +
      (multi ? `, or have one for each head (${target.heads}).` : "."),
  );
}

/** What a growth will mean, for people to read before it runs. */
export interface GrowthSummary {
  readonly parameters: { readonly before: number; readonly after: number };
  /** Bytes that the new checkpoint takes in f32. */
  readonly diskBytes: number;
  /** True where the grown model computes the same function (up to rounding). */
  readonly exact: boolean;
  /** One line for each axis that grows, and what makes it inexact. */
  readonly lines: readonly string[];
}

/** @throws {GrowthError} as `checkGrowth` does. */
export function describeGrowth(
  source: ModelConfig,
  target: ModelConfig,
  options: GrowthOptions,
): GrowthSummary {
  checkGrowth(source, target);
  const before = countParameters(source).total, after = countParameters(target).total;
  const deeper = target.layers > source.layers;
  const multiple = target.hiddenSize % source.hiddenSize === 0;
  const reasons = [
    ...(!multiple && options.width === "copies"
      ? [
        `hidden size ${target.hiddenSize} is no multiple of ${source.hiddenSize}: width "scaled-copies" would be exact`,
      ]
      : []),
    ...(deeper && options.depth !== "identity"
      ? [`depth "${options.depth}" repeats layers: "identity" would be exact`]
      : []),
    ...(options.method !== "fpi" && widens(source, target)
      ? [`method ${options.method} mixes layers on purpose: "fpi" would be exact`]
      : []),
  ];
  const axis = (what: string, from: number, to: number) => from === to ? [] : [`${what} ${from} -> ${to}`];
  return {
    parameters: { before, after },
    diskBytes: after * 4,
    exact: reasons.length === 0,
    lines: [
      ...axis("layers", source.layers, target.layers),
      ...axis("hidden size", source.hiddenSize, target.hiddenSize),
      ...axis("MLP width", source.intermediateSize, target.intermediateSize),
      ...axis("query heads", source.heads, target.heads),
      ...axis("key/value heads", source.kvHeads, target.kvHeads),
      ...reasons.map((reason) => `approximate: ${reason}`),
    ],
  };
}

function widens(source: ModelConfig, target: ModelConfig): boolean {
  return target.hiddenSize > source.hiddenSize || target.intermediateSize > source.intermediateSize ||
    target.heads > source.heads;
}
