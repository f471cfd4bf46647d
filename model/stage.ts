/**
 * A stage: a span of layers, with or without the embedding before and the head behind, on one device.
 *
 * @module
 */
import {
  ALIGNMENT,
  type Device,
  embedding,
  embeddingBackward,
  groupTokens,
  part,
  type View,
} from "../kernels/mod.ts";
import {
  attentionBackward,
  type AttentionBlock,
  attentionBlock,
  attentionForward,
  type AttentionKept,
} from "./attention_block.ts";
import type { ModelConfig } from "./config.ts";
import type { ExpertBank } from "./expert_bank.ts";
import { type RowExchanger, slotsOf } from "./expert_exchange.ts";
import { type Head, headLogits, headLoss, headOf } from "./head.ts";
import { mlpBackward, type MlpBlock, mlpBlock, mlpForward, type MlpKept } from "./mlp_block.ts";
import {
  moeBackward,
  type MoeBlock,
  moeForward,
  type MoeKept,
  type MoeReplay,
  shrink,
  statsWords,
} from "./moe_block.ts";
import { type Parameters, trained } from "./parameters.ts";
import type { Pass, PassSize, PassTables } from "./pass.ts";
import { Scope } from "./scope.ts";

/** What a stage is made of. */
export interface StageOptions {
  /** Layers [from, to). */
  readonly from: number;
  readonly to: number;
  readonly embedding: boolean;
  readonly head: boolean;
  /** Keep only each layer's input (and other workers' answers) and compute the rest again in the backward pass. */
  readonly recompute: boolean;
  /** This worker's name among the hosts. */
  readonly self: string;
  /** For each layer of the span the host of each expert; empty for a dense layer. */
  readonly hosts: readonly (readonly string[])[];
  /** Reaches experts of other hosts. */
  readonly exchange: RowExchanger;
}

/** One microbatch going forward. */
export interface StageInput extends PassSize {
  /** u32 [T], for a stage with the embedding. */
  readonly ids?: Uint32Array<ArrayBuffer>;
  /** [T, D], for the others; the stage releases it. */
  readonly activation?: View;
  /** u32 [T], for a stage with the head. */
  readonly labels?: Uint32Array<ArrayBuffer>;
  /** Labels that count in the whole round. */
  readonly validLabels: number;
}

/** What a forward pass found out, still on the device: router statistics by layer, then the losses of rows. */
export interface Notes {
  readonly view: View;
  readonly microbatch: number;
  readonly rows: number;
}

/** Losses of one microbatch in one stage; see the message of that name. */
export interface StageLosses {
  readonly microbatch: number;
  /** Sum over labels that count, nats. */
  readonly ce: number;
  /** Sums over the stage's layers. */
  readonly balance: number;
  readonly z: number;
  /** Rows of each expert by layer. */
  readonly load: number[][];
}

type Middle = { readonly kind: "mlp"; readonly block: MlpBlock } | {
  readonly kind: "moe";
  readonly block: MoeBlock;
};

interface Layer {
  readonly attention: AttentionBlock;
  readonly middle: Middle;
}

/** A layer between its two passes; with recomputation only `x` and `replay`. */
interface KeptLayer {
  readonly x: View;
  readonly full?: {
    readonly attention: AttentionKept;
    readonly between: View;
    readonly mlp?: MlpKept;
    readonly moe?: MoeKept;
  };
  readonly replay?: MoeReplay;
}

interface Tape {
  readonly pass: Pass;
  readonly notes: View;
  readonly layers: readonly KeptLayer[];
  readonly ids: Uint32Array<ArrayBuffer> | undefined;
  /** Gradient of the last layer's output, for a stage with the head. */
  readonly gradient: View | undefined;
}

/** The passes of a span of layers. */
export class Stage {
  readonly #device: Device;
  readonly #config: ModelConfig;
  readonly #parameters: Parameters;
  readonly #tables: PassTables;
  readonly #options: StageOptions;
  readonly #layers: readonly Layer[];
  readonly #head: Head | undefined;
  readonly #tapes = new Map<number, Tape>();
  readonly #slotViews: View[] = [];

  constructor(
    device: Device,
    parameters: Parameters,
    bank: ExpertBank,
    tables: PassTables,
    options: StageOptions,
  ) {
    this.#device = device;
    this.#config = parameters.config;
    this.#parameters = parameters;
    this.#tables = tables;
    this.#options = options;
    this.#layers = Array.from({ length: options.to - options.from }, (_, i) => ({
      attention: attentionBlock(parameters, options.from + i),
      middle: this.#middle(options.from + i, options.hosts[i], bank),
    }));
    this.#head = options.head ? headOf(parameters) : undefined;
  }

  #middle(layer: number, hosts: readonly string[], bank: ExpertBank): Middle {
    if (this.#config.experts === 0) return { kind: "mlp", block: mlpBlock(this.#parameters, layer) };
    const slots = slotsOf(hosts, this.#options.self);
    const slotOf = this.#device.allocate(slots.slotOf.length, "slots of experts");
    this.#slotViews.push(slotOf);
    this.#device.write(slotOf, slots.slotOf);
    const block = {
      layer,
      norm: this.#parameters.block("post-norm", layer),
      router: this.#parameters.block("router", layer),
      held: bank.layer(layer),
      slots,
      slotOf,
      exchange: this.#options.exchange,
    };
    return { kind: "moe", block };
  }

  /** Words of one layer's statistics among the notes. */
  get #statsStride(): number {
    return Math.ceil(statsWords(this.#config.experts) / ALIGNMENT) * ALIGNMENT;
  }

  get #noteLayers(): number {
    return this.#config.experts > 0 ? this.#layers.length : 0;
  }

  #stats(notes: View, layer: number): View {
    return part(notes, layer * this.#statsStride, statsWords(this.#config.experts));
  }

  /**
   * Runs the layers over one microbatch. The activation (none behind the head) and the notes are the caller's to
   * release, the notes only after the backward pass.
   */
  async forward(input: StageInput): Promise<{ activation: View | undefined; notes: Notes }> {
    const pass = this.#tables.pass(input);
    if (pass.mode === "train" && this.#tapes.has(pass.microbatch)) {
      throw new Error(`Microbatch ${pass.microbatch} went forward twice without a backward pass between`);
    }
    const words = this.#noteLayers * this.#statsStride + (this.#head ? pass.rows : 0);
    const view = this.#device.allocate(Math.max(1, words), "notes of a pass");
    const notes = { view, microbatch: pass.microbatch, rows: pass.rows };
    const { x, layers } = await this.#run(pass, this.#enter(pass, input), view);
    let gradient: View | undefined;
    if (this.#head) {
      gradient = this.#loss(pass, this.#head, x, view, input);
      this.#device.release(x);
    }
    if (pass.mode === "train") {
      const ids = this.#options.embedding ? input.ids : undefined;
      this.#tapes.set(pass.microbatch, { pass, notes: view, layers, ids, gradient });
    }
    return { activation: this.#head ? undefined : x, notes };
  }

  /** Logits [T, V] of one microbatch, for the caller to release; nothing is kept. */
  async logits(input: Omit<StageInput, "labels" | "validLabels">): Promise<View> {
    if (this.#head === undefined) throw new Error("A stage without the head has no logits");
    const pass = this.#tables.pass({ ...input, mode: "evaluate" });
    const scope = new Scope(this.#device);
    const notes = scope.take(Math.max(1, this.#noteLayers * this.#statsStride), "notes of a pass");
    const { x } = await this.#run(pass, this.#enter(pass, input), notes);
    const logits = headLogits(pass, this.#head, x);
    this.#device.release(x);
    scope.release();
    return logits;
  }

  /** The first layer's input, which the pass then owns. */
  #enter(pass: Pass, { ids, activation }: Pick<StageInput, "ids" | "activation">): View {
    const { rows: T, config: { hiddenSize: D, vocabSize: V } } = pass;
    if (!this.#options.embedding) {
      if (activation?.length !== T * D) {
        throw new Error(
          `A stage needs an activation of ${T * D} words and got ${activation?.length ?? "none"}`,
        );
      }
      return activation;
    }
    if (ids?.length !== T) throw new Error(`A stage needs ${T} token ids and got ${ids?.length ?? "none"}`);
    const wrong = ids.findIndex((id) => id >= V);
    if (wrong >= 0) throw new RangeError(`Token id ${ids[wrong]} is outside the model's vocabulary of ${V}`);
    const uploaded = this.#device.allocate(T, "token ids");
    this.#device.write(uploaded, ids);
    const x = this.#device.allocate(T * D, "embedded tokens");
    const table = this.#parameters.block("embedding", -1).weight;
    this.#device.run(embedding, { ids: uploaded, table, y: x }, { rows: T, width: D });
    this.#device.release(uploaded);
    return x;
  }

  async #run(pass: Pass, input: View, notes: View): Promise<{ x: View; layers: KeptLayer[] }> {
    const layers: KeptLayer[] = [];
    let x = input;
    for (let i = 0; i < this.#layers.length; i++) {
      const { y, full } = await this.#layerForward(pass, i, x, notes);
      if (pass.mode === "train" && !this.#options.recompute) {
        layers.push({ x, full });
      } else {
        const replay = this.#forget(pass, i, full, pass.mode === "train");
        if (pass.mode === "train") layers.push({ x, replay });
        else this.#device.release(x);
      }
      x = y;
    }
    return { x, layers };
  }

  async #layerForward(pass: Pass, i: number, x: View, notes: View, replay?: MoeReplay) {
    const { attention, middle } = this.#layers[i];
    const { y: between, kept } = attentionForward(pass, attention, x);
    if (middle.kind === "mlp") {
      const { y, kept: mlp } = mlpForward(pass, middle.block, between);
      return { y, full: { attention: kept, between, mlp } };
    }
    const { y, kept: moe } = await moeForward(pass, middle.block, between, this.#stats(notes, i), replay);
    return { y, full: { attention: kept, between, moe } };
  }

  /** Releases what a layer's forward pass kept, but for what a replay needs. */
  #forget(
    pass: Pass,
    i: number,
    full: NonNullable<KeptLayer["full"]>,
    replayed: boolean,
  ): MoeReplay | undefined {
    const { middle } = this.#layers[i];
    let replay: MoeReplay | undefined;
    full.attention.scope.release();
    full.mlp?.scope.release();
    if (full.moe && middle.kind === "moe" && replayed) replay = shrink(pass, middle.block, full.moe);
    else full.moe?.scope.release();
    this.#device.release(full.between);
    return replay;
  }

  #loss(pass: Pass, head: Head, x: View, notes: View, { labels, validLabels }: StageInput): View | undefined {
    if (labels?.length !== pass.rows) {
      throw new Error(`A stage with the head needs ${pass.rows} labels and got ${labels?.length ?? "none"}`);
    }
    const V = this.#config.vocabSize;
    const wrong = labels.findIndex((label) => label >= V && label !== 0xffffffff);
    if (wrong >= 0) throw new RangeError(`Label ${labels[wrong]} is outside the model's vocabulary of ${V}`);
    const scope = new Scope(this.#device);
    const uploaded = scope.take(pass.rows, "labels");
    this.#device.write(uploaded, labels);
    const scale = scope.take(1, "scale of the loss");
    this.#device.write(scale, Float32Array.of(validLabels > 0 ? 1 / validLabels : 0));
    const loss = part(notes, this.#noteLayers * this.#statsStride, pass.rows);
    const gradient = headLoss(pass, head, x, { labels: uploaded, scale, loss });
    scope.release();
    return gradient;
  }

  /**
   * Takes the gradient of the stage's output [T, D] (none behind the head; the stage owns it) and adds to the
   * gradients of its tensors. Answers with the gradient of its input, for the caller to release; none before the
   * embedding.
   */
  async backward(microbatch: number, gradient?: View): Promise<View | undefined> {
    const tape = this.#tapes.get(microbatch);
    if (tape === undefined) throw new Error(`Microbatch ${microbatch} goes backward without a forward pass`);
    this.#tapes.delete(microbatch);
    const { pass } = tape;
    const dy = tape.gradient ?? gradient;
    const words = pass.rows * this.#config.hiddenSize;
    if (dy?.length !== words) {
      throw new Error(`A stage needs a gradient of ${words} words and got ${dy?.length ?? "none"}`);
    }
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      const { x, full, replay } = tape.layers[i];
      await this.#layerBackward(pass, i, x, full ?? await this.#again(tape, i, x, replay), dy);
      this.#device.release(x);
    }
    if (tape.ids === undefined) return dy;
    this.#embeddingBackward(tape.ids, dy);
    this.#device.release(dy);
    return undefined;
  }

  /** A layer's forward pass once more, for what it keeps. */
  async #again(tape: Tape, i: number, x: View, replay: MoeReplay | undefined) {
    const { y, full } = await this.#layerForward(tape.pass, i, x, tape.notes, replay);
    this.#device.release(y);
    if (replay?.answers) this.#device.release(replay.answers);
    return full;
  }

  async #layerBackward(pass: Pass, i: number, x: View, full: NonNullable<KeptLayer["full"]>, dy: View) {
    const { attention, middle } = this.#layers[i];
    if (middle.kind === "mlp") mlpBackward(pass, middle.block, full.between, full.mlp!, dy);
    else await moeBackward(pass, middle.block, full.between, full.moe!, dy);
    this.#device.release(full.between);
    attentionBackward(pass, attention, x, full.attention, dy);
  }

  #embeddingBackward(ids: Uint32Array<ArrayBuffer>, dy: View): void {
    const groups = groupTokens(ids);
    const scope = new Scope(this.#device);
    const upload = (words: Uint32Array<ArrayBuffer>, label: string) => {
      const view = scope.take(words.length, label);
      this.#device.write(view, words);
      return view;
    };
    const views = {
      tokens: upload(groups.tokens, "distinct tokens"),
      starts: upload(groups.starts, "first rows of tokens"),
      order: upload(groups.order, "rows by token"),
      dy,
      dtable: trained(this.#parameters.block("embedding", -1)).gradient,
    };
    this.#device.run(embeddingBackward, views, {
      unique: groups.tokens.length,
      width: this.#config.hiddenSize,
    });
    scope.release();
  }

  /** Reads notes that came back from the device. */
  losses(notes: Notes, bytes: ArrayBuffer): StageLosses {
    const words = new Float32Array(bytes);
    const { experts: E, expertsPerToken } = this.#config;
    let ce = 0, balance = 0, z = 0;
    const load: number[][] = [];
    for (let i = 0; i < this.#noteLayers; i++) {
      const stats = words.subarray(i * this.#statsStride, i * this.#statsStride + statsWords(E));
      let product = 0;
      for (let e = 0; e < E; e++) product += stats[e] * stats[E + e];
      balance += onGrid(E * product);
      z += onGrid(stats[2 * E]);
      load.push(
        Array.from(stats.subarray(0, E), (share) => Math.round(share * notes.rows * expertsPerToken)),
      );
    }
    if (this.#head) { for (const loss of words.subarray(this.#noteLayers * this.#statsStride)) ce += loss; }
    return { microbatch: notes.microbatch, ce, balance, z, load };
  }

  /** Gives memory back. */
  release(): void {
    for (const view of this.#slotViews) this.#device.release(view);
    this.#slotViews.length = 0;
  }
}

/**
 * Rounds to a multiple of 2^-32. Sums of such numbers are exact in float64, so that the sum over a model's layers does
 * not depend on how they are spread over stages.
 */
function onGrid(value: number): number {
  return Math.round(value * 2 ** 32) / 2 ** 32;
}
