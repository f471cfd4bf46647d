/**
 * What is in a model's tensors: norms, units that are bit for bit copies of each other, what the routers look like. One
 * pass, piece by piece; of each row only a sum is kept.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { pieces, type TensorSource } from "../source.ts";
import { elements, parameterTable, type TensorSpec } from "../tensors.ts";

/** One tensor. Numbers are null where it holds NaN or infinity. */
export interface TensorReport {
  readonly name: string;
  readonly shape: readonly number[];
  /** Square root of the sum of squares, and of their mean. */
  readonly norm: number | null;
  readonly rms: number | null;
  /** Largest absolute value. */
  readonly most: number | null;
  /** Elements that are exactly zero. */
  readonly zeros: number;
}

/** How many units of a kind there are, and how many different ones. */
export interface UnitReport {
  /**
   * "hidden": dimensions of the residual stream that everything writes alike. "neurons": of a dense MLP or of each
   * expert, with the same gate and up rows. "heads": query heads with the same rows and keys and values. "kv-heads":
   * with the same key and value rows. "experts": with the same three matrices.
   */
  readonly unit: "hidden" | "neurons" | "heads" | "kv-heads" | "experts";
  /** Absent for the residual stream, which all layers share. */
  readonly layer?: number;
  readonly units: number;
  readonly distinct: number;
}

/** A router's weights [experts, hidden]. */
export interface RouterReport {
  readonly layer: number;
  /** Standard deviation of all weights. */
  readonly deviation: number;
  /** Norms of the experts' rows. */
  readonly least: number;
  readonly most: number;
  /** The largest cosine between two experts' rows; absent with one expert. */
  readonly closest?: number;
}

/** See the module's description. */
export interface ModelReport {
  readonly tensors: readonly TensorReport[];
  readonly units: readonly UnitReport[];
  readonly routers: readonly RouterReport[];
  /** Layers that write nothing into the residual stream: every o and down is zero. */
  readonly silentLayers: readonly number[];
}

/** Reads every tensor once. */
export async function inspectModel(
  source: TensorSource,
  onProgress: (read: number, total: number) => void = () => {},
): Promise<ModelReport> {
  const { config } = source, table = parameterTable(config);
  const total = table.reduce((sum, { shape }) => sum + elements(shape), 0);
  const tensors: TensorReport[] = [], routers: RouterReport[] = [];
  const units = new Units(config), speaking = new Set<number>();
  let read = 0;
  for (const spec of table) {
    const scan = new Scan(spec, config.hiddenSize);
    const router = spec.role === "router" ? new Float32Array(elements(spec.shape)) : undefined;
    for (const [start, length] of pieces(elements(spec.shape))) {
      const words = await source.read(spec.name, start, length);
      scan.add(words, start);
      router?.set(words, start);
      onProgress(read += length, total);
    }
    const report = scan.report();
    tensors.push(report);
    if (writesResidual(spec) && report.zeros < elements(spec.shape)) speaking.add(spec.layer);
    if (router !== undefined) routers.push(describeRouter(spec, router));
    units.add(spec, scan);
  }
  const layers = Array.from({ length: config.layers }, (_, l) => l);
  return {
    tensors,
    units: units.report(),
    routers,
    silentLayers: layers.filter((layer) => !speaking.has(layer)),
  };
}

function writesResidual({ role }: TensorSpec): boolean {
  return role === "o-weight" || role === "down" || role === "shared-down" || role === "expert-down";
}

/** Two running sums of 32 bits (FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/, over words) for each of `count` units. */
class Sums {
  readonly a: Uint32Array;
  readonly b: Uint32Array;

  constructor(count: number) {
    this.a = new Uint32Array(count).fill(0x811c9dc5);
    this.b = new Uint32Array(count).fill(0x050c5d1f);
  }

  add(unit: number, bits: number): void {
    this.a[unit] = Math.imul(this.a[unit] ^ bits, 0x01000193);
    // Words differ in few bits often: turned, so that the two sums do not meet in the same collisions.
    const b = this.b[unit] ^ bits;
    this.b[unit] = Math.imul((b << 13) | (b >>> 19), 0x85ebca6b);
  }

  /** Takes in another's unit. */
  join(unit: number, other: Sums, index: number): void {
    this.add(unit, other.a[index]);
    this.add(unit, other.b[index]);
  }

  distinct(): number {
    return new Set(Array.from(this.a, (a, i) => a * 2 ** 21 + (this.b[i] >>> 11))).size;
  }
}

/** One tensor on its way: norms, and sums of its rows (of its columns for an embedding). */
class Scan {
  readonly sums: Sums;
  readonly #spec: TensorSpec;
  readonly #width: number;
  readonly #byColumn: boolean;
  #squares = 0;
  #most = 0;
  #zeros = 0;
  #finite = true;

  constructor(spec: TensorSpec, hidden: number) {
    this.#spec = spec;
    this.#width = elements(spec.shape.slice(1));
    this.#byColumn = spec.role === "embedding";
    this.sums = new Sums(this.#byColumn ? hidden : spec.shape[0] ?? 1);
  }

  add(words: Float32Array<ArrayBuffer>, start: number): void {
    const bits = new Uint32Array(words.buffer, words.byteOffset, words.length), width = this.#width;
    let row = Math.floor(start / width), column = start % width;
    for (let i = 0; i < words.length; i++) {
      const value = words[i], size = Math.abs(value);
      this.#squares += value * value;
      if (size > this.#most) this.#most = size;
      if (value === 0) this.#zeros++;
      this.sums.add(this.#byColumn ? column : row, bits[i]);
      if (++column === width) {
        column = 0;
        row++;
      }
    }
    // One value that is not finite makes the sum so, and no finite f32 can.
    this.#finite = Number.isFinite(this.#squares);
  }

  report(): TensorReport {
    const { name, shape } = this.#spec, finite = this.#finite, norm = Math.sqrt(this.#squares);
    return {
      name,
      shape,
      norm: finite ? norm : null,
      rms: finite ? norm / Math.sqrt(elements(shape)) : null,
      most: finite ? this.#most : null,
      zeros: this.#zeros,
    };
  }
}

/** Puts rows of several tensors together to units. */
class Units {
  readonly #config: ModelConfig;
  readonly #hidden: Sums;
  readonly #reports: UnitReport[] = [];
  /** Of the layer under way. */
  #heads: Sums;
  #kvHeads: Sums;
  #neurons: Sums;
  #experts: Sums;

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#hidden = new Sums(config.hiddenSize);
    this.#heads = new Sums(config.heads);
    this.#kvHeads = new Sums(config.kvHeads);
    this.#neurons = new Sums(config.intermediateSize);
    this.#experts = new Sums(Math.max(1, config.experts));
  }

  add(spec: TensorSpec, { sums }: Scan): void {
    const { headDim, hiddenSize: D, experts } = this.#config;
    const each = (into: Sums, size = 1) => {
      for (let row = 0; row < sums.a.length; row++) into.join(Math.floor(row / size), sums, row);
    };
    switch (spec.role) {
      case "q-weight":
      case "q-bias":
        return each(this.#heads, headDim);
      case "k-weight":
      case "k-bias":
      case "v-weight":
      case "v-bias":
        return each(this.#kvHeads, headDim);
      case "embedding":
        return each(this.#hidden);
      case "o-weight":
        each(this.#hidden);
        return this.#endHeads(spec.layer);
      case "gate":
      case "shared-gate":
      case "expert-gate":
        this.#neurons = new Sums(sums.a.length);
        each(this.#neurons);
        return this.#expert(spec, sums);
      case "up":
      case "shared-up":
      case "expert-up":
        each(this.#neurons);
        this.#count("neurons", spec.layer, this.#neurons);
        return this.#expert(spec, sums);
      case "down":
      case "shared-down":
      case "expert-down":
        for (let row = 0; row < D; row++) this.#hidden.join(row, sums, row);
        this.#expert(spec, sums);
        if (spec.expert === experts - 1) {
          this.#count("experts", spec.layer, this.#experts);
          this.#experts = new Sums(experts);
        }
    }
  }

  #expert({ expert }: TensorSpec, sums: Sums): void {
    if (expert === undefined) return;
    for (let row = 0; row < sums.a.length; row++) this.#experts.join(expert, sums, row);
  }

  /** q, k and v of a layer are complete: two query heads are one if they also read the same keys and values. */
  #endHeads(layer: number): void {
    const { heads, kvHeads } = this.#config;
    for (let head = 0; head < heads; head++) {
      this.#heads.join(head, this.#kvHeads, Math.floor(head / (heads / kvHeads)));
    }
    this.#count("heads", layer, this.#heads);
    this.#count("kv-heads", layer, this.#kvHeads);
    this.#heads = new Sums(heads);
    this.#kvHeads = new Sums(kvHeads);
  }

  #count(unit: UnitReport["unit"], layer: number, sums: Sums): void {
    const found = { units: sums.a.length, distinct: sums.distinct() };
    // Neurons of a layer's experts are counted together.
    const last = this.#reports.findIndex((report) => report.unit === unit && report.layer === layer);
    if (last < 0) this.#reports.push({ unit, layer, ...found });
    else {
      const { units, distinct } = this.#reports[last];
      this.#reports[last] = {
        unit,
        layer,
        units: units + found.units,
        distinct: distinct + found.distinct,
      };
    }
  }

  report(): UnitReport[] {
    const hidden = {
      unit: "hidden",
      units: this.#hidden.a.length,
      distinct: this.#hidden.distinct(),
    } as const;
    return [hidden, ...this.#reports];
  }
}

function describeRouter({ layer, shape: [experts, width] }: TensorSpec, words: Float32Array): RouterReport {
  const rows = Array.from({ length: experts }, (_, e) => words.subarray(e * width, (e + 1) * width));
  const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const norms = rows.map((row) => Math.sqrt(product(row, row)));
  const mean = words.reduce((sum, value) => sum + value, 0) / words.length;
  let closest = -Infinity;
  for (let e = 0; e < experts; e++) {
    for (let other = 0; other < e; other++) {
      closest = Math.max(closest, product(rows[e], rows[other]) / (norms[e] * norms[other] || 1));
    }
  }
  return {
    layer,
    deviation: Math.sqrt(words.reduce((sum, value) => sum + (value - mean) ** 2, 0) / words.length),
    least: Math.min(...norms),
    most: Math.max(...norms),
    ...(experts > 1 ? { closest } : {}),
  };
}
