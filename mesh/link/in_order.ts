/**
 * The receiving half of a bundle: numbered messages over several channels become one sequence, each once.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import { MESSAGE_COST, NUMBER_PREFIX } from "./path.ts";

/** One sequence of messages. */
export class InOrder {
  /** Messages that came twice. */
  duplicates = 0;
  private expected = 0;
  /** Messages ahead of the expected one, by number. */
  readonly #ahead = new Map<number, Uint8Array<ArrayBuffer>>();
  #aheadCost = 0;
  #delivering = false;

  /** `deliver` gets each message in its turn; its memory may be used again afterwards. */
  constructor(private readonly deliver: (message: Uint8Array<ArrayBuffer>) => void) {}

  /** Takes a message over any channel. Throws `LinkError` for a peer that has more waiting than it may. */
  receive(number: number, message: Uint8Array<ArrayBuffer>): void {
    const distance = number - this.expected | 0;
    if (distance < 0 || this.#ahead.has(number)) {
      this.duplicates++;
      return;
    }
    if (distance > 0 || this.#delivering) {
      this.#aheadCost += message.length + NUMBER_PREFIX + MESSAGE_COST;
      // The other end keeps what it sends, from the oldest that has not arrived on, within that bound but for small
      // messages that must not wait.
      if (this.#aheadCost > 2 * limits.unarrivedBytes) {
        throw new LinkError("The peer sends too far ahead of a message that it holds back");
      }
      this.#ahead.set(number, message.slice());
      return;
    }
    this.#take(message);
    for (
      let next = this.#ahead.get(this.expected);
      next !== undefined;
      next = this.#ahead.get(this.expected)
    ) {
      this.#ahead.delete(this.expected);
      this.#aheadCost -= next.length + NUMBER_PREFIX + MESSAGE_COST;
      this.#take(next);
    }
  }

  /** Forgets what waits. */
  clear(): void {
    this.#ahead.clear();
  }

  #take(message: Uint8Array<ArrayBuffer>): void {
    this.expected = this.expected + 1 >>> 0;
    this.#delivering = true;
    try {
      this.deliver(message);
    } finally {
      this.#delivering = false;
    }
  }
}
