/**
 * Growing a dense model in width and depth: FPI, AKI, AKI-Pro, AKI-inner, with copies or scaled copies.
 *
 * Readers of a copied unit divide by its number of copies, writers copy. With scaled copies whatever writes dimension j of
 * the residual stream is multiplied by s_j = sqrt(D / (d C_j)) and readers divide by it as well, which keeps every RMS, so
 * that any width is exact. Sources: Chen et al., "bert2BERT" (2022); Zhang et al., "AquilaMoE" (2024).
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { type AxisMap, type GrowthMaps, growthMaps, widen } from "./growth_maps.ts";
import { checkGrowth, type GrowthOptions } from "./growth_options.ts";
import { readPlanned, type RowPlan } from "./growth_rows.ts";
import { randomStream } from "../random.ts";
import type { TensorSource } from "../source.ts";
import { parameterTable, type TensorRole, type TensorSpec } from "../tensors.ts";

export { checkGrowth, describeGrowth, parseGrowthOptions } from "./growth_options.ts";
export type { GrowthOptions, GrowthSummary } from "./growth_options.ts";

/** The source layer of each target layer, and whether it writes nothing into the residual stream. */
export function depthMap(
  from: number,
  to: number,
  depth: GrowthOptions["depth"],
): { readonly layer: number; readonly silent: boolean }[] {
  // Whole numbers throughout: l * from is far below 2^53.
  const layer = (l: number) => depth === "stack" ? l % from : Math.floor(l * from / to);
  return Array.from({ length: to }, (_, l) => ({
    layer: layer(l),
    silent: depth === "identity" && l > 0 && layer(l) === layer(l - 1),
  }));
}

/** How every tensor of the target comes about, in order of its parameter table. @throws {GrowthError} see `checkGrowth`. */
function planGrowth(source: ModelConfig, target: ModelConfig, options: GrowthOptions): RowPlan[] {
  checkGrowth(source, target);
  const planner = new Planner(source, target, options);
  return parameterTable(target).map((spec) => planner.plan(spec));
}

/**
 * The grown model as a source of its own: nothing is computed before it is read, and no more is held than what is read.
 *
 * @throws {GrowthError} see `checkGrowth`.
 */
export function growModel(source: TensorSource, target: ModelConfig, options: GrowthOptions): TensorSource {
  const plans = new Map(planGrowth(source.config, target, options).map((plan) => [plan.spec.name, plan]));
  return {
    config: target,
    read(name, start, length) {
      const plan = plans.get(name);
      if (plan === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
      return readPlanned(source, plan, start, length);
    },
  };
}

/** What a matrix reads and writes: the axes of its columns and rows, and which of them are the residual stream. */
interface Axes {
  readonly rows: AxisMap | undefined;
  readonly columns: AxisMap | undefined;
  /** AKI takes new rows from the layer above. */
  readonly mixes: boolean;
}

class Planner {
  readonly #source: ModelConfig;
  readonly #target: ModelConfig;
  readonly #options: GrowthOptions;
  readonly #maps: GrowthMaps;
  readonly #queryRows: AxisMap;
  readonly #kvRows: AxisMap;
  readonly #layers: { readonly layer: number; readonly silent: boolean }[];
  /** s_j of each residual dimension. */
  readonly #writeScale: Float64Array | undefined;

  constructor(source: ModelConfig, target: ModelConfig, options: GrowthOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#maps = growthMaps(source, target);
    this.#queryRows = widen(this.#maps.heads, source.headDim);
    this.#kvRows = widen(this.#maps.kvHeads, source.headDim);
    this.#layers = depthMap(source.layers, target.layers, options.depth);
    const ratio = target.hiddenSize / source.hiddenSize;
    this.#writeScale = options.width === "scaled-copies"
      ? this.#maps.hidden.copies.map((copies) => Math.sqrt(ratio / copies))
      : undefined;
  }

  plan(spec: TensorSpec): RowPlan {
    const { hidden } = this.#maps, scale = this.#writeScale;
    switch (spec.role) {
      case "embedding": // reads no unit; its columns write the residual stream
        return this.#row(spec, [spec.name], undefined, hidden, scale);
      case "final-norm":
        return { ...this.#vector(spec, [spec.name], hidden), ...this.#finalScale() };
      case "head": {
        // A tied source has no head of its own: the embedding is it.
        const name = this.#source.tiedEmbeddings ? "model.embed_tokens.weight" : spec.name;
        return this.#noisy(
          this.#row(spec, [name], undefined, hidden, this.#readScale(spec, hidden, true)),
          true,
        );
      }
      default:
        return this.#layerPlan(spec);
    }
  }

  #layerPlan(spec: TensorSpec): RowPlan {
    const { layer, silent } = this.#layers[spec.layer];
    const { hidden } = this.#maps, { rows, columns, mixes } = this.#axes(spec.role);
    const writes = spec.role === "o-weight" || spec.role === "down";
    if (silent && writes) return { spec, sources: [], sourceColumns: 0 };
    const above = Math.min(layer + 1, this.#source.layers - 1);
    const sources = [layer, ...(mixes && above !== layer ? [above] : [])].map((l) =>
      spec.name.replace(`.layers.${spec.layer}.`, `.layers.${l}.`)
    );
    const from = sources.length > 1 ? rows?.fresh : undefined;
    const withFrom = <T>(plan: T) => from === undefined ? plan : { ...plan, from };
    if (columns === undefined) return withFrom(this.#vector(spec, sources, rows ?? hidden));
    const residual = columns === hidden;
    const plan = this.#noisy(
      this.#row(spec, sources, rows, columns, this.#readScale(spec, columns, residual)),
      residual,
    );
    const scale = this.#writeScale;
    return withFrom(writes && scale !== undefined ? { ...plan, rowScale: scale } : plan);
  }

  #axes(role: TensorRole): Axes {
    const { hidden, ffn } = this.#maps, { method } = this.#options;
    const inner = method !== "fpi", residual = method === "aki";
    switch (role) {
      case "input-norm":
      case "post-norm":
        return { rows: hidden, columns: undefined, mixes: false };
      case "q-weight":
        return { rows: this.#queryRows, columns: hidden, mixes: inner };
      case "q-bias":
        return { rows: this.#queryRows, columns: undefined, mixes: inner };
      case "k-weight":
      case "v-weight":
        return { rows: this.#kvRows, columns: hidden, mixes: inner };
      case "k-bias":
      case "v-bias":
        return { rows: this.#kvRows, columns: undefined, mixes: inner };
      case "o-weight":
        return { rows: hidden, columns: this.#queryRows, mixes: residual };
      case "gate":
      case "up":
        return { rows: ffn, columns: hidden, mixes: inner };
      case "down":
        return { rows: hidden, columns: ffn, mixes: residual };
      default:
        throw new Error(`A dense model has no tensor that is a ${role}`);
    }
  }

  #vector(spec: TensorSpec, sources: string[], rows: AxisMap): RowPlan {
    return { spec, sources, sourceColumns: 1, rows: rows.unit };
  }

  #row(
    spec: TensorSpec,
    sources: string[],
    rows: AxisMap | undefined,
    columns: AxisMap,
    columnScale: Float64Array | undefined,
  ): RowPlan {
    return {
      spec,
      sources,
      sourceColumns: this.#sourceWidth(columns),
      columns: columns.unit,
      ...(rows === undefined ? {} : { rows: rows.unit }),
      ...(columnScale === undefined ? {} : { columnScale }),
    };
  }

  #sourceWidth(columns: AxisMap): number {
    if (columns === this.#maps.hidden) return this.#source.hiddenSize;
    return columns === this.#maps.ffn
      ? this.#source.intermediateSize
      : this.#source.heads * this.#source.headDim;
  }

  /** The plan of a reader with the noise that was asked for. */
  #noisy(plan: RowPlan, residual: boolean): RowPlan {
    const { noise: deviation = 0, seed = 0 } = this.#options;
    if (deviation === 0) return plan;
    const writeScale = residual ? this.#writeScale : undefined;
    return { ...plan, noise: { seed, deviation, ...(writeScale === undefined ? {} : { writeScale }) } };
  }

  /** What readers multiply each column with: its share of the copies, and back from the scale of its writers. */
  #readScale(spec: TensorSpec, columns: AxisMap, residual: boolean): Float64Array {
    const share = this.#shares(spec, columns), scale = residual ? this.#writeScale : undefined;
    return scale === undefined ? share : share.map((value, j) => value / scale[j]);
  }

  /** Shares of the copies of each unit; they add up to 1. Every tensor draws its own, so that all copies part. */
  #shares(spec: TensorSpec, columns: AxisMap): Float64Array {
    const spread = this.#options.spread ?? 0;
    if (spread === 0) return columns.copies.map((copies) => 1 / copies);
    const stream = randomStream(this.#options.seed ?? 0, "growth shares", spec.name);
    // Elements of one head are one unit: its value rows are copied as a whole, but each may have its own share.
    const weight = Float64Array.from(columns.unit, () => 1 + spread * (2 * stream.uniform() - 1));
    const sum = new Map<number, number>();
    columns.unit.forEach((unit, j) => sum.set(unit, (sum.get(unit) ?? 0) + weight[j]));
    return weight.map((value, j) => value / sum.get(columns.unit[j])!);
  }

  /** A head that stays tied cannot divide: the final norm's gain does it. */
  #finalScale(): { rowScale?: Float64Array } {
    if (!this.#target.tiedEmbeddings) return {};
    const { hiddenSize: D } = this.#target, { hiddenSize: d } = this.#source, { copies } = this.#maps.hidden;
    return { rowScale: copies.map((count) => this.#writeScale === undefined ? 1 / count : d / D) };
  }
}
