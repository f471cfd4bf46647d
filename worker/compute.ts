/**
 * What a worker asks of its device: tensors in and out, the passes of its stages, the experts that it hosts, the
 * optimizer. Asynchronous everywhere: in Deno and browsers it is a thread of its own, in simulations a modelled one.
 *
 * @module
 */
import type { Losses, Part, Profile } from "../mesh/control/messages.ts";
import type { Slice } from "../mesh/plan.ts";
import type { OuterSettings } from "./outer_optimizer.ts";

/** One of the model's tensors as this worker holds it. */
export interface HeldTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its place in the model's parameter table. */
  readonly order: number;
  /**
   * A copy kept for a tied head, or because another replica owns the tensor: the weight is pulled and shown, but only its
   * owner votes, steps and stores it.
   */
  readonly copy: boolean;
}

/** Rows for the experts of one layer on another worker, or what came of them. */
export interface ExpertRows {
  readonly host: string;
  /** Rows of each expert that the host holds of this layer, in order of expert. */
  readonly counts: Uint32Array<ArrayBuffer>;
  /** f32 [sum of counts, hidden]. */
  readonly rows: ArrayBuffer;
}

/** What a stage needs from other workers' experts in the middle of a pass. */
export interface Exchange {
  readonly layer: number;
  readonly microbatch: number;
  /** Rows go out and unweighted outputs come back, or weighted output gradients out and input gradients back. */
  readonly pass: "forward" | "backward";
  readonly mode: "train" | "evaluate";
  /** Only hosts with at least one row. */
  readonly parts: readonly ExpertRows[];
}

/** Answers an exchange: f32 rows for each part, in the order of the parts. */
export type Exchanger = (exchange: Exchange) => Promise<ArrayBuffer[]>;

/** The input of a forward pass over one microbatch; which fields are present follows from the stage. */
export interface ForwardInput {
  readonly stage: number;
  readonly microbatch: number;
  /** In "evaluate" nothing is kept for a backward pass. */
  readonly mode: "train" | "evaluate";
  /** u32 [batch, sequence], for the stage with the embedding. */
  readonly ids?: Uint32Array<ArrayBuffer>;
  /** f32 [batch, sequence, hidden], for the others. */
  readonly activation?: ArrayBuffer;
  /** u32 [batch, sequence], for the stage with the head; 0xffffffff does not count. */
  readonly labels?: Uint32Array<ArrayBuffer>;
  /** Labels that count in the whole round. */
  readonly validLabels: number;
}

/** The decision of a step as the optimizer needs it (see the message of that name). */
export interface StepDecision {
  readonly commit: boolean;
  readonly clip: number;
  readonly learningRate: number;
  readonly step: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** Parts of a tensor that are kept where it is computed. */
export type DevicePart = Exclude<Part, "e">;

/** A device with the part of a model that one worker has; tensors by their names, passes by stage and microbatch. */
export interface Compute {
  /** Measures the device. */
  profile(): Promise<Profile>;
  /** Forgets what was loaded, allocates what the slice holds, and lists its tensors in order of the parameter table. */
  load(slice: Slice): Promise<HeldTensor[]>;
  /** Sets or gets words `start`.. of one part of a held tensor. */
  put(tensor: string, part: DevicePart, start: number, words: Float32Array<ArrayBuffer>): Promise<void>;
  get(tensor: string, part: DevicePart, start: number, length: number): Promise<Float32Array<ArrayBuffer>>;
  /** Answers with the activation for the next stage; the losses are kept until `finish`. */
  forward(input: ForwardInput): Promise<ArrayBuffer | undefined>;
  /** Takes the gradient of the stage's output (none behind the head), answers with that of its input (none before the embedding). */
  backward(stage: number, microbatch: number, gradient?: ArrayBuffer): Promise<ArrayBuffer | undefined>;
  /** The first half of {@linkcode backward}: the same answer, and the gradients of the stage's tensors as they were. */
  backwardInput(stage: number, microbatch: number, gradient?: ArrayBuffer): Promise<ArrayBuffer | undefined>;
  /** The second half: adds to the gradients of the stage's tensors. */
  backwardWeight(stage: number, microbatch: number): Promise<void>;
  /**
   * Runs hosted experts on a peer's rows: outputs of the forward pass, input gradients of the backward pass, which leaves the
   * gradients of weights to {@linkcode hostWeights}.
   */
  host(exchange: Omit<Exchange, "parts"> & { readonly part: Omit<ExpertRows, "host"> }): Promise<ArrayBuffer>;
  /** The rest of a hosted backward pass: adds to the gradients of the experts of a layer. Comes before the layer's next one. */
  hostWeights(layer: number, microbatch: number): Promise<void>;
  /** The accumulated gradient of a tied head, taken (the head's copy is then zero), or added to the embedding's. */
  takeTiedGradient(): Promise<Float32Array<ArrayBuffer>>;
  addTiedGradient(words: Float32Array<ArrayBuffer>): Promise<void>;
  /** A share of the round is complete: see {@linkcode ShareSums} of the model. */
  fold(): Promise<void>;
  /**
   * f32 words of whole tensors, one behind the other. `after`: gradients, once the round's last backward pass has left that
   * layer of that stage; ask before the pass begins.
   */
  read(
    part: "weight" | "gradient",
    tensors: readonly string[],
    after?: { readonly stage: number; readonly layer: number },
  ): Promise<ArrayBuffer>;
  /**
   * Weights of these tensors are on their way: until {@linkcode write} has set those of a layer, passes and guests wait there.
   * Takes the place of what was expected before, of which nothing more comes: passes that need it fail.
   */
  expect(tensors: readonly string[]): Promise<void>;
  /** Sets whole weights, one behind the other. */
  write(tensors: readonly string[], words: ArrayBuffer): Promise<void>;
  /**
   * Adds the gradients of replicas (each whole tensors, one behind the other) to the own ones: those of `before` in order,
   * then the own, then those of `behind` in order.
   */
  addGradients(
    tensors: readonly string[],
    before: readonly ArrayBuffer[],
    behind: readonly ArrayBuffer[],
  ): Promise<void>;
  /** Local training begins: the weights are those that all replicas have. */
  beginLocal(): Promise<void>;
  /** What has changed since: whole tensors, one behind the other (see {@linkcode OuterOptimizer}). */
  deltas(tensors: readonly string[]): Promise<ArrayBuffer>;
  /** Steps tensors for all replicas, given the deltas of all in order and what each counts. */
  outerStep(
    tensors: readonly string[],
    deltas: readonly ArrayBuffer[],
    weights: readonly number[],
    settings: OuterSettings,
  ): Promise<void>;
  /** Takes over weights that another worker stepped. */
  adopt(tensors: readonly string[], words: ArrayBuffer): Promise<void>;
  /** The round's losses by microbatch and, after training, sums of squares of every owned tensor's gradient. */
  finish(): Promise<{ losses: Losses[]; tensors: { name: string; sum: number; finite: boolean }[] }>;
  /** From now on experts are balanced over these assignments, by layer of the model and expert: a whole batch's. */
  balance(loads: readonly (readonly number[])[]): Promise<void>;
  /** AdamW (or nothing, where the step was not committed), then gradients are zero. */
  step(decision: StepDecision): Promise<void>;
  /** Milliseconds of device work since the last call. */
  busy(): Promise<number>;
  close(): void;
}
