/**
 * The tensors that one device holds, in its memory: weights, and for training their gradients and AdamW's moments.
 *
 * @module
 */
import { ALIGNMENT, type Device, packRows, part as span, type View } from "../kernels/mod.ts";
import type { ModelConfig } from "./config.ts";
import { blockKey, type BlockKind, blocksOf, type Flat, flatsOf, type Holding } from "./layout.ts";
import { checkPrecision, type Precision } from "./precision.ts";
import type { TensorSpec } from "./tensors.ts";

/** What is kept of a tensor. A gradient is that of the total loss, summed over the round's microbatches so far. */
export type TensorPart = "weight" | "gradient" | "m" | "v";

/** A block as kernels bind it. */
export interface BoundBlock {
  readonly weight: View;
  /** A matrix as products take it (see products.ts): the weight itself, or its bf16 copy. */
  readonly operand: View;
  /** Absent where the parameters are held for inference only. */
  readonly gradient?: View;
}

/** A block with its gradient. */
export interface TrainedBlock {
  readonly weight: View;
  readonly operand: View;
  readonly gradient: View;
}

/** Says that a block has a gradient; a backward pass over parameters without is our own mistake. */
export function trained(block: BoundBlock): TrainedBlock {
  if (block.gradient === undefined) {
    throw new Error("A backward pass needs parameters that were held for training");
  }
  return { weight: block.weight, operand: block.operand, gradient: block.gradient };
}

/** A tensor in a flat: where its words lie in each of the flat's allocations. */
export interface TensorSpan {
  readonly spec: TensorSpec;
  /** The flat's place in {@linkcode Parameters.flats}. */
  readonly flat: number;
  readonly start: number;
  readonly length: number;
  readonly copy: boolean;
  /** The key of its block. */
  readonly block: string;
}

/** A flat in device memory. A copy has no moments; without training there is only the weight. */
export interface BoundFlat {
  readonly words: number;
  readonly decay: boolean;
  readonly copy: boolean;
  readonly weight: View;
  /** The weights as packed bf16, of matrices where products are computed with it. */
  readonly packed?: View;
  readonly gradient?: View;
  readonly m?: View;
  readonly v?: View;
}

/** A matrix and its bf16 copy. */
interface Packed {
  readonly weight: View;
  readonly operand: View;
  /** Whether the weight may have changed since the copy was made. */
  stale: boolean;
}

/** How parameters are held. */
export interface ParameterOptions {
  /** Adds gradients and moments. */
  readonly training: boolean;
  /** What factors of products are rounded to. Default "f32". */
  readonly precision?: Precision;
}

/** The tensors that one device holds. */
export class Parameters {
  readonly config: ModelConfig;
  readonly holding: Holding;
  readonly flats: readonly BoundFlat[];
  /** Held tensors in order of the model's parameter table. */
  readonly tensors: readonly TensorSpan[];
  readonly #device: Device;
  readonly #blocks = new Map<string, BoundBlock>();
  readonly #byName: ReadonlyMap<string, TensorSpan>;
  readonly precision: Precision;
  /** Where products are computed with bf16: by block. */
  readonly #packed = new Map<string, Packed>();
  /** The head's share of a tied embedding's gradient, apart from the embedding's own until {@linkcode addTied}. */
  readonly #tiedGradient: View | undefined;

  /**
   * Allocates everything, all zero. `training` adds gradients and moments.
   *
   * @throws {TensorTooLargeError} Where the device cannot bind a block.
   * @throws {ModelError} For a width that the precision cannot have.
   */
  constructor(device: Device, config: ModelConfig, holding: Holding, options: ParameterOptions) {
    this.precision = options.precision ?? "f32";
    checkPrecision(config, this.precision);
    this.#device = device;
    this.config = config;
    this.holding = holding;
    const blocks = blocksOf(config, holding);
    const limit = Math.floor(Math.min(device.info.maxBinding, device.info.maxAllocation) / 4);
    // A packed copy of a block begins at half the word at which the block does.
    const flats = flatsOf(blocks, limit, this.precision === "bf16" ? 2 * ALIGNMENT : ALIGNMENT);
    this.flats = flats.map((flat) => this.#bind(flat, options.training));
    this.tensors = flats.flatMap((flat, index) =>
      flat.blocks.flatMap(({ block, start }) =>
        block.tensors.map((placed) => ({
          spec: placed.spec,
          flat: index,
          start: start + placed.start,
          length: placed.length,
          copy: block.copy,
          block: blockKey(block.kind, block.layer),
        }))
      )
    ).sort((a, b) => a.spec.order - b.spec.order);
    this.#byName = new Map(this.tensors.map((tensor) => [tensor.spec.name, tensor]));
    const tied = config.tiedEmbeddings && holding.head && holding.embedding && options.training;
    if (tied) this.#tiedGradient = this.#zeros(config.vocabSize * config.hiddenSize, "tied gradient");
  }

  #zeros(words: number, label: string): View {
    const view = this.#device.allocate(words, label);
    this.#device.clear(view);
    return view;
  }

  #bind(flat: Flat, training: boolean): BoundFlat {
    const kind = `${flat.copy ? "copied " : ""}${flat.decay ? "matrices" : "vectors"}`;
    const make = (what: string, wanted: boolean) =>
      wanted ? this.#zeros(flat.words, `${what} of ${kind}`) : undefined;
    const weight = this.#zeros(flat.words, `weights of ${kind}`);
    const gradient = make("gradients", training);
    // Weight decay is for matrices, and so are products.
    const packed = this.precision === "bf16" && flat.decay
      ? this.#device.allocate(flat.words / 2, `bf16 weights of ${kind}`)
      : undefined;
    const fresh = (copy: Packed) => this.#fresh(copy);
    for (const { block, start } of flat.blocks) {
      const own = span(weight, start, block.words), key = blockKey(block.kind, block.layer);
      const copy = packed && {
        weight: own,
        operand: span(packed, start / 2, Math.ceil(block.words / 2)),
        stale: true,
      };
      if (copy) this.#packed.set(key, copy);
      this.#blocks.set(key, {
        weight: own,
        get operand() {
          return copy === undefined ? own : fresh(copy);
        },
        gradient: gradient && span(gradient, start, block.words),
      });
    }
    const moments = training && !flat.copy;
    const { words, decay, copy } = flat;
    return { words, decay, copy, weight, packed, gradient, m: make("m", moments), v: make("v", moments) };
  }

  /** Says that weights have changed: packed copies are made again before they are next used. */
  changed(): void {
    for (const copy of this.#packed.values()) copy.stale = true;
  }

  #fresh(copy: Packed): View {
    const { weight, operand, stale } = copy;
    copy.stale = false;
    if (stale) this.#device.run(packRows, { x: weight, y: operand }, { rows: 1, width: weight.length });
    return operand;
  }

  /** A block of this holding; asking for one that is not held is our own mistake. */
  block(kind: BlockKind, layer: number): BoundBlock {
    const block = this.#blocks.get(blockKey(kind, layer));
    if (block === undefined) throw new Error(`Block ${kind} of layer ${layer} is not held`);
    return block;
  }

  has(kind: BlockKind, layer: number): boolean {
    return this.#blocks.has(blockKey(kind, layer));
  }

  /** The output matrix [V, D]: the head, or the tied embedding with a gradient of its own. */
  headBlock(): BoundBlock {
    if (!this.config.tiedEmbeddings) return this.block("head", this.config.layers);
    const embedding = this.block("embedding", -1);
    const gradient = this.#tiedGradient;
    if (gradient === undefined) return embedding;
    return {
      weight: embedding.weight,
      get operand() {
        return embedding.operand;
      },
      gradient,
    };
  }

  /** The head's gradient of a tied embedding where this device holds both, for the optimizer to add. */
  get tiedGradient(): View | undefined {
    return this.#tiedGradient;
  }

  /** Words of a part of a tensor on the device. Kernels may bind it only where it begins a block. */
  view(name: string, what: TensorPart): View {
    const tensor = this.#byName.get(name);
    if (tensor === undefined) throw new Error(`Tensor ${name} is not held by this device`);
    const whole = this.flats[tensor.flat][what];
    if (whole === undefined) throw new Error(`This device keeps no ${what} of tensor ${name}`);
    const copy = what === "weight" ? this.#packed.get(tensor.block) : undefined;
    if (copy) copy.stale = true; // whoever asks may write
    return span(whole, tensor.start, tensor.length);
  }

  /** Sets words `start`.. of a part of a tensor. */
  put(name: string, what: TensorPart, start: number, words: Float32Array<ArrayBuffer>): void {
    this.#device.write(span(this.view(name, what), start, words.length), words);
  }

  /** Gets `length` words from `start` (default: all) of a part of a tensor. */
  async get(name: string, what: TensorPart, start = 0, length?: number): Promise<Float32Array<ArrayBuffer>> {
    const view = this.view(name, what);
    const [bytes] = await this.#device.read([span(view, start, length ?? view.length - start)]);
    return new Float32Array(bytes);
  }

  /** Sets every gradient to zero. */
  clearGradients(): void {
    for (const { gradient } of this.flats) if (gradient) this.#device.clear(gradient);
    if (this.#tiedGradient) this.#device.clear(this.#tiedGradient);
  }

  /** Gives all memory back. */
  release(): void {
    for (const { weight, packed, gradient, m, v } of this.flats) {
      for (const view of [weight, packed, gradient, m, v]) if (view) this.#device.release(view);
    }
    if (this.#tiedGradient) this.#device.release(this.#tiedGradient);
  }
}
