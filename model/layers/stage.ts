/**
 * A stage: a span of layers, with or without the embedding before and the head behind, on one device.
 *
 * Legend: T rows, D hidden, V vocabulary.
 *
 * @module
 */
import type { Device, View } from "../../kernels/mod.ts";
import { attentionBlock } from "./attention_block.ts";
import type { ModelConfig } from "../config.ts";
import type { ExpertBank } from "./expert_bank.ts";
import { type Head, headLogits, headLoss, headOf } from "./head.ts";
import { LadderSpan } from "./ladder_span.ts";
import { Layer } from "./layer.ts";
import { NoteLayout, type Notes, type StageLosses } from "./notes.ts";
import type { Parameters } from "../parameters.ts";
import type { Pass, PassSize, PassTables } from "./pass.ts";
import { borderWords } from "./residual.ts";
import { Scope } from "../scope.ts";
import { PlainSpan, type Span } from "./span.ts";
import { type ExpertPlaces, StageExperts } from "./stage_experts.ts";
import { embeddingGradient, embedTokens } from "./token_embedding.ts";
import { WeightsLater, type WeightWork } from "./weight_work.ts";

/** What a stage is made of. */
export interface StageOptions extends ExpertPlaces {
  /** With the embedding before the layers. */
  readonly embedding: boolean;
  /** With the head behind them. */
  readonly head: boolean;
  /** Keep only each layer's input (and other workers' answers) and compute the rest again in the backward pass. */
  readonly recompute: boolean;
}

/** One microbatch going forward. */
export interface StageInput extends PassSize {
  /** u32 [T], for a stage with the embedding. */
  readonly ids?: Uint32Array<ArrayBuffer>;
  /** {@linkcode borderWords} words, for the others; the stage releases it. */
  readonly activation?: View;
  /** u32 [T], for a stage with the head. */
  readonly labels?: Uint32Array<ArrayBuffer>;
  /** Labels that count in the whole round. */
  readonly validLabels: number;
}

/** What is kept of one microbatch between its two passes. */
interface Tape {
  readonly pass: Pass;
  readonly notes: View;
  /** What the span keeps. */
  readonly layers: unknown;
  readonly ids: Uint32Array<ArrayBuffer> | undefined;
  /** Gradient of the last layer's output, for a stage with the head. */
  readonly gradient: View | undefined;
}

/** What a split backward pass left to do for a layer (-1: the embedding). */
interface Left {
  readonly layer: number;
  readonly weights: WeightsLater;
}

/** The passes of a span of layers. */
export class Stage {
  readonly #device: Device;
  readonly #config: ModelConfig;
  readonly #parameters: Parameters;
  readonly #tables: PassTables;
  readonly #options: StageOptions;
  readonly #experts: StageExperts;
  readonly #span: Span;
  readonly #head: Head | undefined;
  readonly #notes: NoteLayout;
  readonly #tapes = new Map<number, Tape>();
  /** By microbatch, between the two halves of a split backward pass. */
  readonly #halves = new Map<number, readonly Left[]>();

  /** `parameters` hold all tensors of the stage, `bank` its own experts. Throws as {@linkcode StageExperts} does. */
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
    this.#experts = new StageExperts(device, parameters, bank, options);
    this.#span = this.#spanOf();
    this.#notes = new NoteLayout(this.#config, options.to - options.from, options.head);
    this.#head = options.head ? headOf(parameters) : undefined;
  }

  #spanOf(): Span {
    const { from, recompute } = this.#options, parameters = this.#parameters, { blocks } = this.#experts;
    if (!this.#config.ladderResidual) {
      return new PlainSpan(blocks.map((moe, i) => new Layer(parameters, from + i, moe)), recompute);
    }
    const rungs = blocks.map((moe, i) => ({ attention: attentionBlock(parameters, from + i), moe: moe! }));
    return new LadderSpan(rungs, this.#options);
  }

  /**
   * Runs the layers over one microbatch. The activation (none behind the head) and the notes are the caller's to
   * release, the notes only after the backward pass. `entering` is asked before the work on each layer (-1 the embedding,
   * the number of layers the head) is given to the device; where weights are on their way it answers with a promise.
   *
   * Throws where the input is not what the stage needs, a label is outside the vocabulary (`RangeError`), or the microbatch
   * is under way already.
   */
  async forward(
    input: StageInput,
    entering: (layer: number) => Promise<void> | undefined = () => undefined,
  ): Promise<{ activation: View | undefined; notes: Notes }> {
    const pass = this.#tables.pass(input);
    if (pass.mode === "train" && this.#tapes.has(pass.microbatch)) {
      throw new Error(`Microbatch ${pass.microbatch} went forward twice without a backward pass between`);
    }
    const view = this.#device.allocate(this.#notes.words(pass.rows), "notes of a pass");
    const notes = { view, microbatch: pass.microbatch, rows: pass.rows }, { from, embedding } = this.#options;
    const given = {
      pass,
      stats: (place: number) => this.#notes.stats(view, place),
      entering: (place: number) => entering(from + place),
    };
    if (embedding) await entering(-1);
    const { output: x, kept: layers } = await this.#span.forward(given, this.#enter(pass, input));
    let gradient: View | undefined;
    if (this.#head) {
      await entering(this.#config.layers);
      gradient = this.#loss(pass, this.#head, x, view, input);
      this.#device.release(x);
    }
    if (pass.mode === "train") {
      const ids = this.#options.embedding ? input.ids : undefined;
      this.#tapes.set(pass.microbatch, { pass, notes: view, layers, ids, gradient });
    }
    return { activation: this.#head ? undefined : x, notes };
  }

  /** Logits [T, V] of one microbatch, for the caller to release; nothing is kept. Throws for a stage without the head. */
  async logits(input: Omit<StageInput, "labels" | "validLabels">): Promise<View> {
    if (this.#head === undefined) throw new Error("A stage without the head has no logits");
    const pass = this.#tables.pass({ ...input, mode: "evaluate" });
    const scope = new Scope(this.#device);
    const notes = scope.take(this.#notes.words(pass.rows), "notes of a pass");
    const given = {
      pass,
      stats: (place: number) => this.#notes.stats(notes, place),
      entering: () => undefined, // nobody writes weights while text is generated
    };
    const { output: x } = await this.#span.forward(given, this.#enter(pass, input));
    const logits = headLogits(pass, this.#head, x);
    this.#device.release(x);
    scope.release();
    return logits;
  }

  /** The first layer's input, which the pass then owns. */
  #enter(pass: Pass, { ids, activation }: Pick<StageInput, "ids" | "activation">): View {
    const T = pass.rows;
    if (!this.#options.embedding) {
      const words = borderWords(this.#config, T);
      if (activation?.length !== words) {
        throw new Error(
          `A stage needs an activation of ${words} words and got ${activation?.length ?? "none"}`,
        );
      }
      return activation;
    }
    if (ids?.length !== T) throw new Error(`A stage needs ${T} token ids and got ${ids?.length ?? "none"}`);
    return embedTokens(this.#device, this.#parameters, ids);
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
    const loss = this.#notes.loss(notes, pass.rows);
    const gradient = headLoss(pass, head, x, { labels: uploaded, scale, loss });
    scope.release();
    return gradient;
  }

  /**
   * Takes the gradient of the stage's output ({@linkcode borderWords} words; none behind the head; the stage owns it) and
   * adds to the gradients of its tensors. Answers with the gradient of its input (as many words), for the caller to release;
   * none before the embedding. `left` is called when the work on a layer has been given to the device, from the last layer
   * down.
   *
   * Throws where the microbatch has had no forward pass or the gradient is of another size.
   */
  async backward(
    microbatch: number,
    gradient?: View,
    left: (layer: number) => void = () => {},
  ): Promise<View | undefined> {
    return await this.#backward(microbatch, gradient, (_layer, pass) => pass.weights, left);
  }

  /**
   * The first half of {@linkcode backward}: answers with the gradient of the input and keeps what
   * {@linkcode backwardWeight} needs. Other workers' experts do both halves of their part, one after the other.
   */
  async backwardInput(microbatch: number, gradient?: View): Promise<View | undefined> {
    const halves: Left[] = [];
    const weightsOf = (layer: number) => {
      const weights = new WeightsLater(this.#device);
      halves.push({ layer, weights });
      return weights;
    };
    const dx = await this.#backward(microbatch, gradient, weightsOf, () => {});
    this.#halves.set(microbatch, halves);
    return dx;
  }

  /** The second half: adds to the gradients of the tensors. `left` as in {@linkcode backward}. Throws before the first half. */
  backwardWeight(microbatch: number, left: (layer: number) => void = () => {}): void {
    const halves = this.#halves.get(microbatch);
    if (halves === undefined) {
      throw new Error(`The weights of microbatch ${microbatch} come before the gradient of its input`);
    }
    this.#halves.delete(microbatch);
    for (const { layer, weights } of halves) {
      weights.finish();
      if (layer >= 0) left(layer);
    }
  }

  async #backward(
    microbatch: number,
    received: View | undefined,
    weightsOf: (layer: number, pass: Pass) => WeightWork,
    left: (layer: number) => void,
  ): Promise<View | undefined> {
    const tape = this.#tapes.get(microbatch);
    if (tape === undefined) throw new Error(`Microbatch ${microbatch} goes backward without a forward pass`);
    this.#tapes.delete(microbatch);
    const { pass } = tape;
    const gradient = tape.gradient ?? received;
    const words = tape.gradient ? pass.rows * this.#config.hiddenSize : borderWords(this.#config, pass.rows);
    if (gradient?.length !== words) {
      throw new Error(`A stage needs a gradient of ${words} words and got ${gradient?.length ?? "none"}`);
    }
    const { from } = this.#options;
    const dy = await this.#span.backward(
      {
        pass,
        stats: (place) => this.#notes.stats(tape.notes, place),
        weightsOf: (place) => weightsOf(from + place, pass),
        left: (place) => left(from + place),
      },
      tape.layers,
      gradient,
    );
    const { ids } = tape;
    if (ids === undefined) return dy;
    const weights = weightsOf(-1, pass);
    weights.add([dy], () => embeddingGradient(this.#device, this.#parameters, ids, dy));
    weights.discard(dy);
    return undefined;
  }

  /** Reads notes of a forward pass: `bytes` are what its `view` holds. */
  losses(notes: Notes, bytes: ArrayBuffer): StageLosses {
    return this.#notes.read(notes, bytes, this.#experts.shares());
  }

  /** As {@linkcode StageExperts.balance}. */
  balance(loads: readonly (readonly number[])[]): void {
    this.#experts.balance(loads);
  }

  /** Gives memory back. */
  release(): void {
    this.#experts.release();
  }
}
