/**
 * A text that grows token by token: keys and values of all earlier tokens stay on the device, so that a new token costs one
 * row of work.
 *
 * Legend: n new rows, T rows so far, D hidden, H query heads, K key/value heads, hd head size, V vocabulary.
 *
 * @module
 */
import { add, attentionCached, cacheAppend, part, rmsNorm, type View } from "../../kernels/mod.ts";
import { type AttentionBlock, attentionBlock, project, projectQkv } from "../layers/attention_block.ts";
import { ModelError } from "../errors.ts";
import { slotsOf } from "../layers/expert_exchange.ts";
import { type Head, headLogits, headOf } from "../layers/head.ts";
import type { LoadedModel } from "../layers/local_model.ts";
import { type MlpBlock, mlpBlock, mlpForward, sharedExpert } from "../layers/mlp_block.ts";
import { type MoeBlock, statsWords } from "../layers/moe_block.ts";
import { moeBegin, moeForward } from "../layers/moe_forward.ts";
import type { Pass } from "../layers/pass.ts";
import { Scope } from "../scope.ts";
import { embedTokens } from "../layers/token_embedding.ts";

/** One layer, with the keys and values of the text so far, each [capacity, K hd]. */
interface CachedLayer {
  readonly attention: AttentionBlock;
  readonly mlp: MlpBlock | undefined;
  readonly moe: MoeBlock | undefined;
  readonly keys: View;
  readonly values: View;
}

/** One growing text on a model's device. */
export class Decoder {
  /** Tokens that fit. */
  readonly capacity: number;
  readonly #model: LoadedModel;
  readonly #scope: Scope;
  readonly #layers: readonly CachedLayer[];
  readonly #head: Head;
  readonly #stats: View | undefined;
  readonly #table: View;
  #length = 0;

  /**
   * Makes room for `capacity` tokens; {@linkcode release} gives it back.
   *
   * @throws {ModelError} Where one layer's keys exceed what the device binds.
   */
  constructor(model: LoadedModel, capacity: number) {
    const { config, device, parameters } = model;
    const words = capacity * config.kvHeads * config.headDim;
    const most = Math.floor(Math.min(device.info.maxBinding, device.info.maxAllocation) / 4);
    if (words > most) {
      const tokens = Math.floor(most / (config.kvHeads * config.headDim));
      throw new ModelError(
        `Cannot keep the keys of ${capacity} tokens: ${4 * words} bytes a layer, this device binds at ` +
          `most ${4 * most}. Use a text of at most ${tokens} tokens.`,
      );
    }
    this.capacity = capacity;
    this.#model = model;
    this.#scope = new Scope(device);
    this.#head = headOf(parameters);
    this.#table = model.tables.rotations(capacity);
    try {
      const experts = config.experts > 0 ? this.#experts() : undefined;
      this.#stats = experts && this.#scope.take(statsWords(config.experts), "router statistics");
      this.#layers = Array.from({ length: config.layers }, (_, layer) => ({
        attention: attentionBlock(parameters, layer),
        mlp: experts ? undefined : mlpBlock(parameters, layer),
        moe: experts?.(layer),
        keys: this.#scope.take(words, "cached keys"),
        values: this.#scope.take(words, "cached values"),
      }));
    } catch (error) {
      this.#scope.release();
      throw error;
    }
  }

  /** Makes the expert halves of layers: every expert is here, in order. */
  #experts(): (layer: number) => MoeBlock {
    const { config, device, parameters } = this.#model;
    const slots = slotsOf(Array<string>(config.experts).fill(""), "");
    const slotOf = this.#scope.take(config.experts, "slots of experts");
    device.write(slotOf, slots.slotOf);
    const experts = Array.from({ length: config.experts }, (_, expert) => expert);
    return (layer) => ({
      layer,
      norm: parameters.block("post-norm", layer),
      router: parameters.block("router", layer),
      shared: sharedExpert(parameters, layer),
      held: {
        experts,
        gateUp: parameters.block("experts-gate-up", layer),
        down: parameters.block("experts-down", layer),
      },
      slots,
      slotOf,
      balance: {},
      exchange: () => Promise.reject(new Error("Every expert is on this device")),
    });
  }

  /** Tokens so far. */
  get length(): number {
    return this.#length;
  }

  /**
   * Appends tokens (one or many at once) and answers with the logits [V] of what follows the last of them.
   *
   * @throws {RangeError} For no tokens, for more than fit, or for an id outside the vocabulary; nothing is appended then.
   */
  async extend(ids: Uint32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>> {
    const { config, device, parameters, tables } = this.#model, { hiddenSize: D, vocabSize: V } = config;
    const n = ids.length;
    if (n === 0 || this.#length + n > this.capacity) {
      throw new RangeError(
        `Cannot append ${n} tokens to ${this.#length}: there is room for ${this.capacity}`,
      );
    }
    const wrong = ids.findIndex((id) => id >= V);
    if (wrong >= 0) throw new RangeError(`Token id ${ids[wrong]} is outside the model's vocabulary of ${V}`);
    const size = { mode: "evaluate", microbatch: 0, microbatches: 1, batch: 1 } as const;
    const pass: Pass = { ...tables.pass({ ...size, sequence: n }), table: this.#table };
    const scope = new Scope(device);
    try {
      let x = scope.adopt(embedTokens(device, parameters, ids));
      // With a ladder residual: what the layer before adds, once the next one's attention has read the stream without it.
      let late: View | undefined;
      for (const layer of this.#layers) {
        const between = scope.adopt(this.#attend(pass, layer, x));
        scope.drop(x);
        if (late) this.#join(scope, late, between);
        if (config.ladderResidual) {
          const zeros = scope.take(n * D, "zeros");
          device.clear(zeros);
          const { y, kept } = await (await moeBegin(pass, layer.moe!, between, this.#stats!)).finish(zeros);
          kept.scope.release();
          scope.drop(zeros);
          [x, late] = [between, scope.adopt(y)];
          continue;
        }
        const { y, kept } = layer.mlp
          ? mlpForward(pass, layer.mlp, between)
          : await moeForward(pass, layer.moe!, between, this.#stats!);
        kept.scope.release();
        scope.drop(between);
        x = scope.adopt(y);
      }
      if (late) this.#join(scope, late, x);
      const last = scope.take(D, "last row");
      device.copy(part(x, (n - 1) * D, D), last);
      const one = { ...tables.pass({ ...size, sequence: 1 }), table: this.#table };
      const logits = scope.adopt(headLogits(one, this.#head, last));
      const [bytes] = await device.read([part(logits, 0, V)]);
      this.#length += n;
      return new Float32Array(bytes);
    } finally {
      scope.release();
    }
  }

  /** Adds `late` to x and gives it back. */
  #join(scope: Scope, late: View, x: View): void {
    this.#model.device.run(add, { x: late, y: x }, { length: x.length });
    scope.drop(late);
  }

  /** The output [n, D] of the layer's first half, for the caller to release. */
  #attend(pass: Pass, layer: CachedLayer, x: View): View {
    const { device, rows: n, config } = pass;
    const { hiddenSize: D, heads: H, kvHeads: K, headDim: hd, rmsNormEps: eps } = config;
    const { attention: { norm }, keys, values } = layer;
    const scope = new Scope(device);
    try {
      const normed = scope.take(n * D, "normed input");
      const inverse = scope.take(n, "inverse norms");
      device.run(rmsNorm, { x, gain: norm.weight, y: normed, inverse }, { rows: n, width: D, eps });
      const qkv = scope.take(n * (H + 2 * K) * hd, "queries, keys, values");
      const operand = pass.products.turned(device, scope, normed, n, D);
      projectQkv(pass, layer.attention, operand, qkv, this.#length);
      const sizes = { rows: n, start: this.#length, heads: H, kvHeads: K, headDim: hd };
      device.run(cacheAppend, { qkv, keys, values }, sizes);
      const out = scope.take(n * H * hd, "mixed values");
      device.run(attentionCached, { qkv, keys, values, out }, sizes);
      const between = device.allocate(n * D, "attention output");
      project(pass, layer.attention, out, x, between);
      return between;
    } finally {
      scope.release();
    }
  }

  /** Gives the memory back. */
  release(): void {
    this.#scope.release();
  }
}
