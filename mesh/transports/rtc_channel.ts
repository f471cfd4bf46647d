/**
 * What every WebRTC data channel does, whichever library carries it: messages that come before there is a reader are kept for
 * it, whoever waits for room goes on when there is some, and an end has one reason.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Channel, ChannelBinding } from "../runtime.ts";

/** One data channel of some library as a `Channel`; see peer_opening.ts for how it opens. */
export abstract class RtcChannel implements Channel {
  abstract readonly kind: string;
  abstract readonly binding: ChannelBinding;
  readonly maxMessage = limits.channelBytes;
  readonly closed: Promise<string>;
  /** Resolves when messages can be sent. */
  readonly opened: Promise<void>;

  /** It is closed, or closes. */
  protected over = false;
  #open = false;
  #resolveClosed!: (reason: string) => void;
  #resolveOpened!: () => void;
  #handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined;
  readonly #early: Uint8Array<ArrayBuffer>[] = [];
  readonly #waiting: { readonly bytes: number; resolve(): void }[] = [];

  constructor() {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.opened = new Promise((resolve) => this.#resolveOpened = resolve);
  }

  /** Bytes that the library holds and has not sent. */
  protected abstract held(): number;
  /** Hands a message to the library. Only while it is open. */
  protected abstract transmit(message: Uint8Array<ArrayBuffer>): void;
  /** Has the library bring about {@linkcode drain} once it holds no more than `bytes`; a later call replaces it. */
  protected abstract expect(bytes: number): void;
  /** Closes the channel and its connection, and calls `done` when nothing of them is left. */
  protected abstract shut(done: () => void): void;

  /** The library says that messages can be sent. */
  protected open(): void {
    this.#open = true;
    this.#resolveOpened();
  }

  /** Takes in a message. `lent`: the library uses its memory again as soon as this returns. */
  protected deliver(message: Uint8Array<ArrayBuffer>, lent = false): void {
    if (this.over) return;
    if (message.length > this.maxMessage) return this.close("the peer sent a message that is too large");
    if (this.#handler !== undefined) return this.#handler(message);
    this.#early.push(lent ? message.slice() : message);
    if (this.#early.length > limits.earlyMessages) this.close("nobody listens");
  }

  /** Lets those go on whose mark is reached. */
  protected drain(): void {
    const left = this.buffered();
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (left <= this.#waiting[i].bytes) this.#waiting.splice(i, 1)[0].resolve();
    }
    if (this.#waiting.length > 0 && !this.over) this.#expectNext();
  }

  #expectNext(): void {
    this.expect(Math.max(...this.#waiting.map(({ bytes }) => bytes)));
  }

  get onmessage(): ((message: Uint8Array<ArrayBuffer>) => void) | undefined {
    return this.#handler;
  }

  set onmessage(handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined) {
    this.#handler = handler;
    while (this.#handler !== undefined && this.#early.length > 0) this.#handler(this.#early.shift()!);
  }

  send(message: Uint8Array<ArrayBuffer>): void {
    if (this.over || !this.#open) throw new LinkError("Cannot send on a channel that is not open");
    if (message.length > this.maxMessage) {
      throw new LinkError(`Cannot send a message of ${message.length} bytes: the most is ${this.maxMessage}`);
    }
    this.transmit(message);
  }

  buffered(): number {
    return this.over ? 0 : this.held();
  }

  drained(bytes: number): Promise<void> {
    if (this.buffered() <= bytes) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ bytes, resolve });
      this.#expectNext();
      if (this.buffered() <= bytes) this.drain(); // a library with threads of its own may have sent it meanwhile
    });
  }

  close(reason = "closed"): void {
    if (this.over) return;
    this.over = true;
    for (const { resolve } of this.#waiting.splice(0)) resolve();
    this.shut(() => this.#resolveClosed(reason));
  }
}
