/**
 * How long a device was worked on, where pieces of work may overlap.
 *
 * @module
 */

/** Counts the time in which at least one piece of work was under way. */
export class BusyClock {
  readonly #now: () => number;
  #open = 0;
  #since = 0;
  #total = 0;

  /** `now` gives milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  enter(): void {
    if (this.#open++ === 0) this.#since = this.#now();
  }

  leave(): void {
    if (--this.#open === 0) this.#total += this.#now() - this.#since;
  }

  /** Counts the time of `work`. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.enter();
    try {
      return await work();
    } finally {
      this.leave();
    }
  }

  /** Does not count the time of `wait`, which happens inside of work. */
  async outside<T>(wait: () => Promise<T>): Promise<T> {
    this.leave();
    try {
      return await wait();
    } finally {
      this.enter();
    }
  }

  /** Milliseconds since the last call. */
  take(): number {
    if (this.#open > 0) {
      const now = this.#now();
      this.#total += now - this.#since;
      this.#since = now;
    }
    const total = this.#total;
    this.#total = 0;
    return total;
  }
}
