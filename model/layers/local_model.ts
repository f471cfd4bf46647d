/**
 * A whole model on one device: for evaluation, generation, tests, and training without a mesh.
 *
 * @module
 */
import type { AdamwSettings, Device, View } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import { ExpertBank } from "./expert_bank.ts";
import { wholeModel } from "../layout.ts";
import { Lease } from "../lease.ts";
import { clipFactor, Optimizer } from "./optimizer.ts";
import { Parameters } from "../parameters.ts";
import { PassTables } from "./pass.ts";
import { pieces, type TensorSource } from "../source.ts";
import type { Precision } from "../precision.ts";
import { Stage } from "./stage.ts";

/** Options of {@linkcode LoadedModel.load}. */
export interface LoadOptions {
  /** Adds gradients and moments, three times the memory of the weights. Default false. */
  readonly training?: boolean;
  /** Keep only layer inputs between the two passes. Default false. */
  readonly recompute?: boolean;
  /** What factors of matrix products are rounded to. Default "f32". */
  readonly precision?: Precision;
}

/** Token ids or labels of equally long sequences, one after the other: u32 [batch, sequence]. */
export interface Sequences {
  readonly ids: Uint32Array<ArrayBuffer>;
  readonly batch: number;
  readonly sequence: number;
}

/** The losses of a batch. */
export interface BatchLoss {
  /** Sum of the cross-entropy over labels that count, nats. */
  readonly sum: number;
  /** Labels that count. */
  readonly valid: number;
  /** sum / valid. */
  readonly ce: number;
  /** Sums over layers of the balancing loss and of the z-loss; 0 for a dense model. */
  readonly balance: number;
  readonly z: number;
  /** ce + coefficient * balance + coefficient * z. */
  readonly total: number;
  /** Rows of each expert by layer; empty for a dense model. */
  readonly load: readonly (readonly number[])[];
}

/** A step's result. */
export interface StepResult extends BatchLoss {
  /** Norm of all gradients before clipping. */
  readonly norm: number;
  /** False where a gradient was not finite and nothing changed. */
  readonly committed: boolean;
}

/** Settings of a step: AdamW's, the decay of matrices, and the largest norm of all gradients together. */
export interface StepSettings extends Omit<AdamwSettings, "clip"> {
  readonly weightDecay: number;
  readonly clipNorm: number;
}

/** Labels that do not count. */
const IGNORED = 0xffffffff;

/** A whole model on one device. */
export class LoadedModel {
  readonly config: ModelConfig;
  readonly device: Device;
  readonly parameters: Parameters;
  readonly tables: PassTables;
  readonly #stage: Stage;
  readonly #bank: ExpertBank;
  readonly #optimizer: Optimizer | undefined;
  readonly #lease: Lease;

  private constructor(device: Device, config: ModelConfig, options: LoadOptions) {
    const { training = false, recompute = false, precision = "f32" } = options;
    this.config = config;
    this.#lease = new Lease(device);
    this.device = this.#lease;
    this.parameters = new Parameters(this.device, config, wholeModel(config), { training, precision });
    this.tables = new PassTables(this.device, config, precision);
    this.#bank = new ExpertBank(this.device, this.parameters, { recompute });
    this.#stage = new Stage(this.device, this.parameters, this.#bank, this.tables, {
      from: 0,
      to: config.layers,
      embedding: true,
      head: true,
      recompute,
      self: "",
      hosts: Array.from({ length: config.layers }, () => Array<string>(config.experts).fill("")),
      exchange: () => Promise.reject(new Error("Every expert is on this device")),
    });
    this.#optimizer = training ? new Optimizer(this.device, this.parameters) : undefined;
  }

  /** Puts a model on a device, piece by piece. */
  static async load(device: Device, source: TensorSource, options: LoadOptions = {}): Promise<LoadedModel> {
    const model = new LoadedModel(device, source.config, options);
    try {
      for (const { spec: { name }, length } of model.parameters.tensors) {
        for (const [start, count] of pieces(length)) {
          model.parameters.put(name, "weight", start, await source.read(name, start, count));
        }
      }
    } catch (error) {
      model.release();
      throw error;
    }
    return model;
  }

  /** Logits f32 [batch * sequence, vocabulary]. */
  async forwardLogits({ ids, batch, sequence }: Sequences): Promise<Float32Array<ArrayBuffer>> {
    const size = { microbatch: 0, microbatches: 1, batch, sequence, mode: "evaluate" as const };
    const view = await this.#stage.logits({ ...size, ids });
    const [bytes] = await this.device.read([view]);
    this.device.release(view);
    return new Float32Array(bytes);
  }

  /** Losses of one batch, nothing kept. Labels are u32 [batch, sequence], already shifted; 0xffffffff does not count. */
  async loss(sequences: Sequences, labels: Uint32Array<ArrayBuffer>): Promise<BatchLoss> {
    return (await this.#forward(sequences, labels, "evaluate")).loss;
  }

  /** The loss of each token of one batch, f32 [batch, sequence]; 0 where the label does not count. */
  async tokenLosses(sequences: Sequences, labels: Uint32Array<ArrayBuffer>): Promise<Float32Array> {
    return (await this.#forward(sequences, labels, "evaluate")).rows;
  }

  /** Losses of one batch, and the gradients of their total added to the parameters' gradients. */
  async gradients(sequences: Sequences, labels: Uint32Array<ArrayBuffer>): Promise<BatchLoss> {
    return (await this.#forward(sequences, labels, "train")).loss;
  }

  /** The losses, and what `more` (called after the passes) wants to be read with them, in one transfer. */
  async #forward(
    { ids, batch, sequence }: Sequences,
    labels: Uint32Array<ArrayBuffer>,
    mode: "train" | "evaluate",
    more: () => View[] = () => [],
  ): Promise<{ loss: BatchLoss; rows: Float32Array; read: ArrayBuffer[] }> {
    let valid = 0;
    for (const label of labels) if (label !== IGNORED) valid++;
    const size = { microbatch: 0, microbatches: 1, batch, sequence, mode };
    const { notes } = await this.#stage.forward({ ...size, ids, labels, validLabels: valid });
    if (mode === "train") {
      await this.#stage.backward(0);
      this.#optimizer?.joinTied();
    }
    const [bytes, ...read] = await this.device.read([notes.view, ...more()]);
    const { ce: sum, balance, z, load, rows } = this.#stage.losses(notes, bytes);
    this.device.release(notes.view);
    const ce = valid > 0 ? sum / valid : 0;
    const total = ce + this.config.balanceCoefficient * balance + this.config.zCoefficient * z;
    return { loss: { sum, valid, ce, balance, z, total, load }, rows, read };
  }

  /** One step of AdamW on one batch, clipped; a gradient that is not finite leaves weights and moments alone. */
  async step(
    sequences: Sequences,
    labels: Uint32Array<ArrayBuffer>,
    settings: StepSettings,
  ): Promise<StepResult> {
    const optimizer = this.#trained();
    const { loss, read } = await this.#forward(sequences, labels, "train", () => optimizer.measure());
    const sizes = optimizer.sizes(read);
    const { norm, clip } = clipFactor(sizes, settings.clipNorm);
    const committed = sizes.every(({ finite }) => finite);
    if (committed) optimizer.step({ ...settings, clip }, settings.weightDecay);
    else this.parameters.clearGradients();
    return { ...loss, norm, committed };
  }

  #trained(): Optimizer {
    if (this.#optimizer === undefined) throw new Error("The model was loaded without training");
    return this.#optimizer;
  }

  /** Gives all memory back; the device stays open. */
  release(): void {
    this.#lease.close();
  }
}
