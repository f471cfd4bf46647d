/**
 * The switches of a recipe: what each phase makes of the model before it, as a configuration and as tensors that are read
 * through, so that nothing is written and nothing held.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import { ConfigError, GrowthError } from "../../model/errors.ts";
import { checkGrowth, describeGrowth, growModel, parseGrowthOptions } from "../../model/growth/growth.ts";
import type { TensorSource } from "../../model/source.ts";
import { countParameters } from "../../model/tensors.ts";
import {
  defaultShare,
  upcycledConfig,
  upcycleModel,
  type UpcycleOptions,
} from "../../model/growth/upcycle.ts";
import { RecipeError } from "../errors.ts";
import type { GrowPhase, Phase, SwitchPhase, TrainPhase, UpcyclePhase } from "./recipe_phases.ts";
import { isSwitch } from "./recipe_phases.ts";

/** A switch, ready to be read. */
export interface Switched {
  readonly model: TensorSource;
  /** The function stays, up to rounding of f32: the loss must too. */
  readonly exact: boolean;
  /** What is done, for people. */
  readonly lines: readonly string[];
}

/**
 * The model's configuration in each phase of a recipe (for a switch: behind it). Throws {@linkcode RecipeError} naming the
 * first phase that does not fit what comes before it.
 */
export function modelsOf(phases: readonly Phase[], first: ModelConfig): ModelConfig[] {
  let config = first;
  return phases.map((phase, index) => {
    const at = `[[phase]] ${index + 1}`;
    try {
      if (isSwitch(phase)) config = targetOf(phase, config);
      else if (phase.kind === "train") config = trainedConfig(phase, config);
    } catch (error) {
      if (error instanceof GrowthError || error instanceof ConfigError || error instanceof RecipeError) {
        throw new RecipeError(`${at} (${phase.kind}): ${error.message}`);
      }
      throw error;
    }
    return config;
  });
}

/** The model with the coefficients that a phase of training asks for. */
export function trainedConfig(phase: TrainPhase, config: ModelConfig): ModelConfig {
  const { router_aux_loss_coef: balance, router_z_loss_coef: z, balancing } = phase;
  if (config.experts === 0) {
    const asked = balance !== undefined
      ? "router_aux_loss_coef"
      : z !== undefined
      ? "router_z_loss_coef"
      : balancing === "global"
      ? "balancing"
      : undefined;
    if (asked === undefined) return config;
    throw new RecipeError(`the model is dense here, so there is no router for ${asked}; leave the key out.`);
  }
  return {
    ...config,
    balanceCoefficient: balance ?? config.balanceCoefficient,
    zCoefficient: z ?? config.zCoefficient,
  };
}

/** A switch's tensors, read through those of the model before it. Throws GrowthError. */
export function applySwitch(phase: SwitchPhase, source: TensorSource): Switched {
  const target = targetOf(phase, source.config);
  return phase.kind === "grow" ? grown(phase, source, target) : upcycled(phase, source, target);
}

function targetOf(phase: SwitchPhase, config: ModelConfig): ModelConfig {
  if (phase.kind === "upcycle") {
    return upcycledConfig(config, {
      experts: phase.num_local_experts,
      expertsPerToken: phase.num_experts_per_tok,
      shared: phase.shared_expert !== false,
      balanceCoefficient: phase.router_aux_loss_coef,
      zCoefficient: phase.router_z_loss_coef,
    });
  }
  const heads = phase.num_attention_heads ?? config.heads;
  const multi = config.kvHeads === config.heads;
  if (phase.untie && !config.tiedEmbeddings) {
    throw new GrowthError("untie: the model's head is its own already; leave the key out.");
  }
  const target: ModelConfig = {
    ...config,
    hiddenSize: phase.hidden_size ?? config.hiddenSize,
    intermediateSize: phase.intermediate_size ?? config.intermediateSize,
    layers: phase.num_hidden_layers ?? config.layers,
    heads,
    kvHeads: phase.num_key_value_heads ?? (multi ? heads : config.kvHeads),
    tiedEmbeddings: config.tiedEmbeddings && !phase.untie,
  };
  parseGrowthOptions(growthValues(phase));
  checkGrowth(config, target);
  const keys = Object.keys(target) as (keyof ModelConfig)[];
  if (keys.every((key) => target[key] === config[key])) {
    throw new GrowthError(
      `nothing would grow: the model has hidden_size ${config.hiddenSize}, intermediate_size ` +
        `${config.intermediateSize}, num_hidden_layers ${config.layers}, num_attention_heads ${config.heads} already. ` +
        `Give a larger one, or leave the phase out.`,
    );
  }
  return target;
}

function growthValues({ method, depth, width, spread, noise, seed }: GrowPhase) {
  return { method, depth, width, spread, noise, seed };
}

function grown(phase: GrowPhase, source: TensorSource, target: ModelConfig): Switched {
  const options = parseGrowthOptions(growthValues(phase));
  const { lines, exact } = describeGrowth(source.config, target, options);
  return {
    model: growModel(source, target, options),
    exact,
    lines: [...lines, `${phase.method}, depth ${options.depth}, width ${options.width}`],
  };
}

function upcycled(phase: UpcyclePhase, source: TensorSource, target: ModelConfig): Switched {
  const { shared_expert: shared, noise, drop, seed, router_std: routerDeviation } = phase;
  const share = shared === false ? undefined : shared === true ? defaultShare : shared;
  const options: UpcycleOptions = {
    seed,
    routerDeviation,
    ...(noise > 0 ? { noise } : {}),
    ...(drop > 0 ? { drop } : {}),
    ...(share === undefined ? {} : { share }),
  };
  const changes = [
    ...(noise > 0 ? [`noise ${noise}`] : []),
    ...(drop > 0 ? [`${drop} of the neurons drawn anew`] : []),
  ];
  return {
    model: upcycleModel(source, target, options),
    exact: changes.length === 0,
    lines: [
      `dense -> ${target.experts} experts, ${target.expertsPerToken} a token` +
      (share === undefined ? "" : ", beside a shared expert"),
      [`router deviation ${routerDeviation}`, ...changes].join(", "),
    ],
  };
}

/** Parameters in all and those that a token visits. */
export function sizesOf(config: ModelConfig): { parameters: number; active: number } {
  const { total, active } = countParameters(config);
  return { parameters: total, active };
}
