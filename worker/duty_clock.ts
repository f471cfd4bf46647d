/**
 * A device of which only a share is lent: it works on one piece at a time and rests after each.
 *
 * @module
 */
import { BusyClock } from "./busy_clock.ts";

/** What a {@linkcode DutyClock} needs. */
export interface Duty {
  /** Of the device's time, above 0 and below 1. */
  readonly share: number;
  /** Milliseconds from some fixed point. */
  readonly now: () => number;
  /** Resolves after so many milliseconds. */
  readonly rest: (ms: number) => Promise<void>;
  /** Resolves once the device has done everything that it was given. */
  readonly settled: () => Promise<unknown>;
}

/**
 * Rests (1 / share - 1) times as long as a piece of work took before the next one begins; the result of a piece is given
 * out before the rest. The rest counts as busy: of such a device the mesh has no more.
 */
export class DutyClock extends BusyClock {
  readonly #duty: Duty;
  /** Resolves when the device is free for the next piece. */
  #free: Promise<void> = Promise.resolve();
  /** Ends the piece under way. */
  #end: () => void = () => {};

  constructor(duty: Duty) {
    super(duty.now);
    this.#duty = duty;
  }

  override async during<T>(work: () => Promise<T>): Promise<T> {
    await this.#begin();
    try {
      return await work();
    } finally {
      this.#end();
    }
  }

  override async outside<T>(wait: () => Promise<T>): Promise<T> {
    this.#end();
    try {
      return await wait();
    } finally {
      await this.#begin();
    }
  }

  async #begin(): Promise<void> {
    const before = this.#free, { promise, resolve } = Promise.withResolvers<void>();
    this.#free = promise;
    await before;
    this.enter();
    const { share, now, rest, settled } = this.#duty, began = now();
    this.#end = async () => {
      try {
        await settled();
      } catch {
        // A device that is gone says so to whoever asks it next.
      }
      await rest((now() - began) * (1 / share - 1));
      this.leave();
      resolve();
    };
  }
}
