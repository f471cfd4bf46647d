/**
 * A map that keeps what was used lately.
 *
 * @module
 */

/**
 * A bounded cache in two generations: when the young one is full it becomes the old one, and what was in the old one
 * and has not been asked for since is dropped. Nearly least-recently-used, without work on a hit.
 */
export class RecentMap<Value> {
  readonly #bound: number;
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();

  /** Holds at most twice `bound` values. */
  constructor(bound: number) {
    this.#bound = bound;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(key: string): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) {
      this.#old.delete(key);
      this.set(key, old);
    }
    return old;
  }

  set(key: string, value: Value): void {
    if (this.#young.size >= this.#bound) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }
}
