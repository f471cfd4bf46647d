/**
 * Activations and gradients between the operations of a round: one makes or receives a tensor, a later one takes it.
 *
 * @module
 */
import { PlanViolationError } from "./errors.ts";

/** Tensors by kind, own stage and microbatch; some are still being made. */
export class Between {
  readonly #at = new Map<string, Promise<ArrayBuffer>>();

  /** `self` is the worker's name, for errors. */
  constructor(private readonly self: string) {}

  /** A new round: whatever nobody took is of no use any more. */
  clear(): void {
    this.#at.clear();
  }

  /** Keeps what is being made; nothing made is an error for whoever takes it. */
  keep(what: string, stage: number, microbatch: number, made: Promise<ArrayBuffer | undefined>): void {
    const words = made.then((words) => {
      if (words === undefined) throw new Error(`Stage ${stage} gave no ${what} for microbatch ${microbatch}`);
      return words;
    });
    words.catch(() => {}); // whoever takes it hears of it
    this.#at.set(`${what} ${stage} ${microbatch}`, words);
  }

  /** Takes what was kept, once. Throws {@linkcode PlanViolationError} for what was not. */
  take(what: string, stage: number, microbatch: number): Promise<ArrayBuffer> {
    const key = `${what} ${stage} ${microbatch}`, words = this.#at.get(key);
    if (words === undefined) {
      throw new PlanViolationError(
        `The operations of ${this.self} use the ${what} of stage ${stage}, microbatch ${microbatch}, ` +
          "before it is there",
      );
    }
    this.#at.delete(key);
    return words;
  }
}
