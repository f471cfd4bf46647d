/**
 * The layers of a stage, one behind the other: what a stage does between its two ends. One with the plain residual stands
 * here, one with a ladder residual in ladder_span.ts.
 *
 * @module
 */
import type { View } from "../../kernels/mod.ts";
import { type KeptLayer, type Layer } from "./layer.ts";
import type { Pass } from "./pass.ts";
import type { WeightWork } from "./weight_work.ts";

/** What layers are given for a pass. */
export interface SpanPass {
  readonly pass: Pass;
  /** Where the router's statistics of a layer (by its place in the span) are written. */
  readonly stats: (place: number) => View;
}

/** What a forward pass is given beside that. */
export interface SpanForward extends SpanPass {
  /** Resolves when the weights of a layer (by its place in the span) are there; undefined where they are. */
  readonly entering: (place: number) => Promise<void> | undefined;
}

/** What a backward pass is given beside {@linkcode SpanPass}. */
export interface SpanBackward extends SpanPass {
  /** Takes the work on weights of a layer; asked once for each, from the last layer down. */
  readonly weightsOf: (place: number) => WeightWork;
  /** Called when all work on a layer has been given to the device, from the last layer down. */
  readonly left: (place: number) => void;
}

/** Passes of the layers of a stage. `Kept` is what they need between the two. */
export interface Span<Kept = unknown> {
  /**
   * Takes what comes in (the span owns it) to what goes out, the caller's: between stages {@linkcode borderWords} words, [T, D]
   * behind the embedding and before the head. Nothing is kept in evaluation.
   */
  forward(given: SpanForward, input: View): Promise<{ output: View; kept: Kept }>;
  /** The same for gradients, from the output to the input; adds to the gradients of weights. Releases what was kept. */
  backward(given: SpanBackward, kept: Kept, gradient: View): Promise<View>;
}

/** Each half of a layer reads the whole stream and adds to it. */
export class PlainSpan implements Span<readonly KeptLayer[]> {
  readonly #layers: readonly Layer[];
  readonly #recompute: boolean;

  /** With `recompute` only layers' inputs (and other workers' answers) are kept. */
  constructor(layers: readonly Layer[], recompute: boolean) {
    this.#layers = layers;
    this.#recompute = recompute;
  }

  async forward(
    { pass, stats, entering }: SpanForward,
    input: View,
  ): Promise<{ output: View; kept: KeptLayer[] }> {
    const kept: KeptLayer[] = [];
    let x = input;
    for (const [i, layer] of this.#layers.entries()) {
      await entering(i);
      const { y, full } = await layer.forward(pass, x, () => stats(i));
      if (pass.mode === "evaluate") {
        layer.forget(pass, full, false);
        pass.device.release(x);
      } else if (this.#recompute) kept.push({ x, replay: layer.forget(pass, full, true) });
      else kept.push({ x, full });
      x = y;
    }
    return { output: x, kept };
  }

  async backward(
    { pass, stats, weightsOf, left }: SpanBackward,
    kept: readonly KeptLayer[],
    gradient: View,
  ): Promise<View> {
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      const { x, full, replay } = kept[i], layer = this.#layers[i], weights = weightsOf(i);
      const again = full ?? await layer.again(pass, x, () => stats(i), replay);
      await layer.backward({ ...pass, weights }, x, again, gradient);
      weights.discard(x);
      left(i);
    }
    return gradient;
  }
}
