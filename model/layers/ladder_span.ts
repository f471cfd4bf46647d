/**
 * Layers with a ladder residual (after Zhang et al., "Ladder-Residual", 2025), for mixtures of experts whose experts lie on
 * other workers. A layer's attention reads the stream s without the experts' output m of the layer before, which joins behind
 * it, so that rows are away while attention computes; experts and all that follows read the whole stream:
 *
 * ```text
 * A_l = s_l + attention(norm(s_l))       B_l = A_l + m_(l-1)       m_l = experts(norm(B_l))       s_(l+1) = B_l
 * ```
 *
 * The model's last stream is B + m. In the backward pass rows of layer l are away while attention of layer l + 1 goes
 * backward: the gradient of m_l is that of B_(l+1), known before it. Between stages s and m cross together.
 *
 * @module
 */
import { add, type Device, part, type View } from "../../kernels/mod.ts";
import {
  attentionBackward,
  type AttentionBlock,
  attentionForward,
  type AttentionKept,
} from "./attention_block.ts";
import { moeBackwardBegin } from "./moe_backward.ts";
import { type MoeBlock, type MoeKept, type MoeReplay, shrink } from "./moe_block.ts";
import { moeBegin, type MoeForward } from "./moe_forward.ts";
import type { Pass } from "./pass.ts";
import type { Span, SpanBackward, SpanForward } from "./span.ts";

/** Everything that a layer's backward pass needs. */
interface Full {
  readonly attention: AttentionKept;
  /** B [T, D]; without recomputation also the stream that the next layer's attention read. */
  readonly between: View;
  readonly moe: MoeKept;
}

interface KeptRung {
  /** s [T, D] */
  readonly x: View;
  /** m [T, D] of the layer before, for a layer that is computed again. */
  readonly late?: View;
  readonly full?: Full;
  readonly replay?: MoeReplay;
}

/** A layer whose rows are away. */
interface Away extends Omit<KeptRung, "full" | "replay"> {
  readonly rows: MoeForward;
  readonly block: MoeBlock;
  readonly attention: AttentionKept;
}

/** One layer's halves. */
interface Rung {
  readonly attention: AttentionBlock;
  readonly moe: MoeBlock;
}

/** The layers of a stage of a model with a ladder residual. */
export class LadderSpan implements Span<readonly KeptRung[]> {
  readonly #layers: readonly Rung[];
  readonly #options: { readonly embedding: boolean; readonly head: boolean; readonly recompute: boolean };

  /** `embedding` and `head` say where the span begins and ends the model. */
  constructor(
    layers: readonly Rung[],
    options: { readonly embedding: boolean; readonly head: boolean; readonly recompute: boolean },
  ) {
    this.#layers = layers;
    this.#options = options;
  }

  async forward(
    { pass, stats, entering }: SpanForward,
    input: View,
  ): Promise<{ output: View; kept: readonly KeptRung[] }> {
    const { device, rows: T, config: { hiddenSize: D } } = pass, { recompute } = this.#options;
    const kept: KeptRung[] = [], training = pass.mode === "train";
    let [stream, late] = this.#options.embedding ? [input, undefined] : halves(device, input);
    const zeros = zerosOf(device, T * D);
    let away: Away | undefined;
    /** The experts' output of the layer whose rows are away; what is to be kept of it is. */
    const join = async (): Promise<View | undefined> => {
      if (away === undefined) return late;
      const { x, attention, rows } = away, { y, kept: moe } = await rows.finish(zeros);
      if (training && !recompute) kept.push({ x, full: { attention, between: stream, moe } });
      else {
        attention.scope.release();
        if (training) kept.push({ x, late: away.late, replay: shrink(pass, away.block, moe) });
        else moe.scope.release();
      }
      return y;
    };
    for (const [i, { attention: block, moe }] of this.#layers.entries()) {
      await entering(i);
      const { y: between, kept: attention } = attentionForward(pass, block, stream);
      late = await join();
      if (late) device.run(add, { x: late, y: between }, { length: T * D });
      const x = stream;
      stream = between;
      if (!training) device.release(x);
      if (late && !(training && recompute)) device.release(late);
      away = { rows: await moeBegin(pass, moe, between, stats(i)), block: moe, x, late, attention };
    }
    late = await join();
    device.release(zeros);
    const output = this.#leave(pass, stream, late);
    if (kept.at(-1)?.full === undefined) device.release(stream);
    if (late) device.release(late);
    return { output, kept };
  }

  /** What goes out: the whole stream before the head, else its two parts. */
  #leave({ device, rows, config }: Pass, stream: View, late: View | undefined): View {
    const words = rows * config.hiddenSize, { head } = this.#options;
    const output = device.allocate(head ? words : 2 * words, "span output");
    device.copy(stream, part(output, 0, words));
    if (late === undefined) throw new Error("A span without layers begins behind a layer");
    if (head) device.run(add, { x: late, y: output }, { length: words });
    else device.copy(late, part(output, words, words));
    return output;
  }

  async backward(
    { pass, stats, weightsOf, left }: SpanBackward,
    kept: readonly KeptRung[],
    gradient: View,
  ): Promise<View> {
    const { device, rows: T, config: { hiddenSize: D } } = pass,
      { recompute, embedding, head } = this.#options;
    // The gradient of the stream, and of the last layer's experts' output: the same where both joined.
    const [stream, late] = head ? [gradient, undefined] : halves(device, gradient);
    let above: (() => void) | undefined;
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      const rung = this.#layers[i], { x } = kept[i], weights = weightsOf(i), own = { ...pass, weights };
      const full = kept[i].full ?? await this.#again(pass, rung, kept[i], () => stats(i));
      const moe = await moeBackwardBegin(own, rung.moe, full.moe, above ? stream : late ?? stream);
      above?.(); // while rows are away
      await moe.finish(full.between, stream);
      weights.discard(full.between);
      above = () => {
        attentionBackward(own, rung.attention, x, full.attention, stream);
        // Without recomputation what a layer read is `between` of the one before, and goes with that.
        if (recompute || i === 0) weights.discard(x);
        left(i);
      };
    }
    if (late) device.release(late);
    if (embedding) {
      above?.();
      return stream;
    }
    const output = device.allocate(2 * T * D, "gradient of a span's input");
    device.copy(stream, part(output, T * D, T * D));
    above?.();
    device.copy(stream, part(output, 0, T * D));
    device.release(stream);
    return output;
  }

  /** Computes again what was not kept. */
  async #again(pass: Pass, rung: Rung, { x, late, replay }: KeptRung, stats: () => View): Promise<Full> {
    const { device, rows: T, config: { hiddenSize: D } } = pass;
    const { y: between, kept: attention } = attentionForward(pass, rung.attention, x);
    if (late) device.run(add, { x: late, y: between }, { length: T * D });
    const zeros = zerosOf(device, T * D);
    const { y, kept: moe } = await (await moeBegin(pass, rung.moe, between, stats(), replay)).finish(zeros);
    for (const view of [y, zeros, late, replay?.answers]) if (view) device.release(view);
    return { attention, between, moe };
  }
}

/** The two halves of a span, each released alone; the whole is released here. */
function halves(device: Device, whole: View): [View, View] {
  const words = whole.length / 2;
  const [first, second] = ["stream", "experts' output"].map((label, i) => {
    const half = device.allocate(words, label);
    device.copy(part(whole, i * words, words), half);
    return half;
  });
  device.release(whole);
  return [first, second];
}

function zerosOf(device: Device, words: number): View {
  const view = device.allocate(words, "zeros");
  device.clear(view);
  return view;
}
