/**
 * What the sending half of a bundle keeps: every message from the oldest that has not arrived on, with its number; and the
 * memory of those that have, for the next ones.
 *
 * @module
 */
import { limits } from "../limits.ts";
import { KIND } from "./link_wire.ts";
import { MESSAGE_COST, type Numbered } from "./path.ts";

/** Messages whose memory is kept for others: what is under way at full speed. */
const MOST_USED = 2 * limits.toldBytes / limits.channelBytes;

/** Messages by number, and used memory. */
export class Kept {
  /** Bytes that are held, with what holding costs. */
  cost = 0;
  private next = 0;
  /** From the oldest message that has not arrived to the newest. */
  #messages: Numbered[] = [];
  #head = 0;
  /** Memory of large messages that have arrived. */
  readonly #used: ArrayBuffer[] = [];

  /** The one that has waited longest. */
  get oldest(): Numbered | undefined {
    return this.#messages[this.#head];
  }

  /** Memory for a message of so many bytes, where `most` has the largest: for large ones that of one that has arrived. */
  room(bytes: number, most: number): Uint8Array<ArrayBuffer> {
    if (bytes > most || bytes <= most / 2) return new Uint8Array(bytes);
    return new Uint8Array(this.#used.pop() ?? new ArrayBuffer(most), 0, bytes);
  }

  /** Gives a message its number and keeps it. */
  add(message: Uint8Array<ArrayBuffer>): Numbered {
    const numbered = { number: this.next, message, sentAt: 0, arrived: false, again: false };
    this.next = this.next + 1 >>> 0;
    message[0] = KIND.numbered;
    new DataView(message.buffer, message.byteOffset + 1, 4).setUint32(0, numbered.number, true);
    this.#messages.push(numbered);
    this.cost += message.length + MESSAGE_COST;
    return numbered;
  }

  /** Lets go of those at the front that have arrived; `most` as for {@linkcode room}. */
  release(most: number): void {
    for (let first = this.oldest; first?.arrived; first = this.oldest) {
      this.#head++;
      this.cost -= first.message.length + MESSAGE_COST;
      // A copy of one that was sent twice may still be under way within the library.
      const { buffer } = first.message;
      if (!first.again && buffer.byteLength === most && this.#used.length < MOST_USED) {
        this.#used.push(buffer);
      }
    }
    if (this.#head > 1_024 || this.#head === this.#messages.length) {
      this.#messages.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#messages.length =
      this.#used.length =
      this.#head =
      this.cost =
        0;
  }
}
