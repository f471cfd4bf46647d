/**
 * A WebSocket as a `Channel`: a client's in Deno or a browser, or a server's upgraded one. Large messages travel in
 * pieces (one byte that says what it is, then bytes), as servers refuse large WebSocket messages.
 *
 * Deno's client leaves Nagle's algorithm on and writes a message of more than 1 KiB in two parts, so that the second part
 * waits 40 ms for the acknowledgement that the other end delays. An answer carries the acknowledgement at once. Hence a
 * client asks for one with every small message, and ahead of every large one: both parts of that then leave together.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Channel, ChannelBinding, Clock } from "../runtime.ts";

/**
 * What a piece is: a part of a message, its last part, a last part that wants to be answered, only the wish to be
 * answered, and the answer.
 */
const MORE = 0, LAST = 1, LAST_ASKING = 2, ASK = 3, ANSWER = 4;
/** Bytes of a piece that a client certainly writes in one part. */
const ONE_WRITE = 1_000;
/** Between two looks at a socket that is being drained, in ms: a WebSocket does not say when. */
const DRAIN_MS = 5;
/** Bytes of a reason that a WebSocket can carry (RFC 6455). */
const REASON_BYTES = 123;

/** Resolves once the socket is open. Rejects with `LinkError` when it cannot be within `limits.connectMs`. */
export async function webSocketChannel(socket: WebSocket, clock: Clock): Promise<WebSocketChannel> {
  const channel = new WebSocketChannel(socket, clock, true);
  const timer = clock.timer(
    limits.connectMs,
    () => channel.close(`no answer within ${limits.connectMs / 1_000} s`),
  );
  const failed = channel.closed.then((reason) => {
    throw new LinkError(`Cannot open a connection${socket.url ? ` to ${socket.url}` : ""}: ${reason}`);
  });
  failed.catch(() => {}); // later closing is for the channel's owner
  try {
    await Promise.race([channel.opened, failed]);
  } finally {
    timer.cancel();
  }
  return channel;
}

/** One end of a WebSocket. */
export class WebSocketChannel implements Channel {
  readonly kind = "websocket";
  /** None: a program does not see the TLS under a WebSocket. So links do not run on one; see handshake.ts. */
  readonly binding: ChannelBinding = { proven: false };
  readonly maxMessage = limits.messageBytes;
  readonly closed: Promise<string>;
  readonly opened: Promise<void>;
  onactivity: (() => void) | undefined;
  /** Largest message that is taken from the other end, in bytes; a larger one closes the connection. */
  acceptBytes: number = limits.messageBytes;

  private over = false;
  private reason = "";
  private resolveClosed!: (reason: string) => void;
  private handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined;
  private early: Uint8Array<ArrayBuffer>[] = [];
  private pieces: Uint8Array<ArrayBuffer>[] = [];
  private heldBytes = 0;

  /** `asks`: this end's small writes may be held back (see above). A server's never are. */
  constructor(
    private readonly socket: WebSocket,
    private readonly clock: Clock,
    private readonly asks = false,
  ) {
    this.closed = new Promise((resolve) => this.resolveClosed = resolve);
    socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve) => {
      if (socket.readyState === WebSocket.OPEN) resolve();
      else socket.addEventListener("open", () => resolve());
    });
    socket.addEventListener("message", (event) => this.receive(event.data));
    socket.addEventListener("error", (event) => {
      const message = (event as ErrorEvent).message;
      this.finish(`the connection failed${message ? ` (${message})` : ""}`);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.finish(reason || (code === 1000 ? "the other end closed" : `the connection ended (code ${code})`));
    });
  }

  get onmessage(): ((message: Uint8Array<ArrayBuffer>) => void) | undefined {
    return this.handler;
  }

  set onmessage(handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined) {
    this.handler = handler;
    while (this.handler !== undefined && this.early.length > 0) this.handler(this.early.shift()!);
  }

  send(message: Uint8Array<ArrayBuffer>): void {
    if (this.over || this.socket.readyState !== WebSocket.OPEN) {
      throw new LinkError("Cannot send on a closed connection");
    }
    if (message.length > this.maxMessage) {
      throw new LinkError(`Cannot send a message of ${message.length} bytes: the most is ${this.maxMessage}`);
    }
    const step = limits.webSocketBytes - 1, last = this.asks ? LAST_ASKING : LAST;
    if (this.asks && message.length >= ONE_WRITE) this.socket.send(Uint8Array.of(ASK));
    for (let at = 0; at === 0 || at < message.length; at += step) {
      const part = message.subarray(at, at + step), piece = new Uint8Array(1 + part.length);
      piece[0] = at + step >= message.length ? last : MORE;
      piece.set(part, 1);
      this.socket.send(piece);
    }
  }

  buffered(): number {
    return this.over ? 0 : this.socket.bufferedAmount;
  }

  drained(bytes: number): Promise<void> {
    if (this.buffered() <= bytes) return Promise.resolve();
    return new Promise((resolve) => {
      const look = () => {
        if (this.buffered() <= bytes) resolve();
        else this.clock.timer(DRAIN_MS, look);
      };
      this.clock.timer(DRAIN_MS, look);
    });
  }

  close(reason = "closed"): void {
    if (this.over) return;
    this.over = true;
    this.reason = reason;
    const { readyState } = this.socket;
    if (readyState === WebSocket.OPEN || readyState === WebSocket.CONNECTING) {
      this.socket.close(1000, shorten(reason));
    }
    // A dead peer never answers the close; its owner need not wait for that.
    const timer = this.clock.timer(limits.suspectedMs, () => this.resolveClosed(reason));
    this.closed.then(() => timer.cancel());
  }

  private finish(reason: string): void {
    this.resolveClosed(this.over ? this.reason : reason);
    this.over = true;
    this.pieces = [];
  }

  private answer(): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(Uint8Array.of(ANSWER));
  }

  private receive(data: unknown): void {
    if (this.over) return;
    if (!(data instanceof ArrayBuffer) || data.byteLength < 1 || data.byteLength > limits.webSocketBytes) {
      return this.close("a message was no piece of this protocol");
    }
    const piece = new Uint8Array(data), kind = piece[0], body = piece.subarray(1);
    const empty = kind === ASK || kind === ANSWER;
    if (kind > ANSWER || (kind === MORE && body.length === 0) || (empty && body.length > 0)) {
      return this.close("a message was no piece of this protocol");
    }
    // What is on its way already carries the acknowledgement too, and someone who never reads must not fill our memory.
    if ((kind === ASK || kind === LAST_ASKING) && this.socket.bufferedAmount === 0) this.answer();
    if (empty) return this.onactivity?.();
    if (this.heldBytes + body.length > this.acceptBytes) {
      return this.close(`a message of more than ${this.acceptBytes} bytes came`);
    }
    if (kind === MORE) {
      this.pieces.push(body);
      this.heldBytes += body.length;
      this.onactivity?.();
      return;
    }
    let message = body;
    if (this.pieces.length > 0) {
      message = new Uint8Array(this.heldBytes + body.length);
      let at = 0;
      for (const part of [...this.pieces, body]) {
        message.set(part, at);
        at += part.length;
      }
      this.pieces = [];
      this.heldBytes = 0;
    }
    if (this.handler !== undefined) return this.handler(message);
    this.early.push(message);
    if (this.early.length > limits.earlyMessages) this.close("nobody listens");
  }
}

/** As much of a reason as fits, whole characters only. */
function shorten(reason: string): string {
  let short = reason;
  while (new TextEncoder().encode(short).length > REASON_BYTES) short = [...short].slice(0, -1).join("");
  return short;
}
