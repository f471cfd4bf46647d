/**
 * How much all links of a worker may send together: a bucket that fills at the rate that its user lends.
 *
 * @module
 */
import { limits } from "../limits.ts";
import type { Clock } from "../runtime.ts";

/** Time whose bytes may be sent at once after a silence, in ms: timers are hardly more precise. */
const BURST_MS = 20;

/** Bytes that may be sent. What was taken too much is waited for before the next message. */
export class SendBudget {
  #level: number;
  #at: number;
  readonly #most: number;

  /** `rate` in bytes a second. */
  constructor(private readonly clock: Clock, private readonly rate: number) {
    this.#most = Math.max(limits.pieceBytes, rate * BURST_MS / 1_000);
    this.#level = this.#most;
    this.#at = clock.now();
  }

  /** Milliseconds until a message may be sent; 0: now. */
  wait(): number {
    const now = this.clock.now();
    this.#level = Math.min(this.#most, this.#level + (now - this.#at) * this.rate / 1_000);
    this.#at = now;
    return this.#level > 0 ? 0 : 1 - this.#level / this.rate * 1_000;
  }

  /** A message of so many bytes was sent. */
  take(bytes: number): void {
    this.#level -= bytes;
  }
}
