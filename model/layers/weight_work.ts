/**
 * The part of a backward pass that only adds to the gradients of weights. Nobody waits for it before the vote, so a
 * schedule may put it off (zero-bubble pipelines: Qi et al. 2024): whatever it reads is then kept until it has run. Each
 * tensor gets the same sums in the same order either way.
 *
 * @module
 */
import type { Bindings, Device, Kernel, Params, Values, View } from "../../kernels/mod.ts";
import type { Scope } from "../scope.ts";

/** Takes the work on weights of one layer (or of the embedding), and the memory that it reads. */
export interface WeightWork {
  /** Work that reads these spans. */
  add(reads: readonly View[], work: () => void): void;
  /** A kernel of such work. */
  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void;
  /** What `view` holds now, for such work; a copy in `scope` where it may change before the work runs. */
  frozen(view: View, scope: Scope): View;
  /** Gives a scope back, as soon as no work that was added needs it. */
  release(scope: Scope): void;
  /** The same for one span. */
  discard(view: View): void;
}

/** Everything at once: a whole backward pass. */
export class WeightsAtOnce implements WeightWork {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  add(_reads: readonly View[], work: () => void): void {
    work();
  }

  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.#device.run(kernel, views, values);
  }

  frozen(view: View): View {
    return view;
  }

  release(scope: Scope): void {
    scope.release();
  }

  discard(view: View): void {
    this.#device.release(view);
  }
}

/** Everything later: the backward pass is split in two, and {@linkcode WeightsLater.finish} is the second half. */
export class WeightsLater implements WeightWork {
  readonly #device: Device;
  readonly #reads = new Set<View>();
  readonly #work: (() => void)[] = [];
  readonly #scopes: Scope[] = [];
  readonly #views: View[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  add(reads: readonly View[], work: () => void): void {
    for (const view of reads) this.#reads.add(view);
    this.#work.push(work);
  }

  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.add(Object.values<View>(views), () => this.#device.run(kernel, views, values));
  }

  frozen(view: View, scope: Scope): View {
    const copy = scope.take(view.length, "gradient as it was");
    this.#device.copy(view, copy);
    return copy;
  }

  release(scope: Scope): void {
    scope.releaseBut(this.#reads);
    this.#scopes.push(scope);
  }

  discard(view: View): void {
    if (this.#reads.has(view)) this.#views.push(view);
    else this.#device.release(view);
  }

  /** Runs what was put off, once, and gives back what it read. */
  finish(): void {
    for (const work of this.#work.splice(0)) work();
    for (const scope of this.#scopes.splice(0)) scope.release();
    for (const view of this.#views.splice(0)) this.#device.release(view);
    this.#reads.clear();
  }
}
