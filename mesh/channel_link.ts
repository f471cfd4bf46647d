/**
 * `Link` over a `Channel`: hello, lanes with credit, signs of life, and a close that loses nothing.
 *
 * ```text
 * hello ->  <- hello      who are you (version, run, generation, id)
 * credit x3, ready ->     what you may send; the other end likewise: open
 * data ... <-> credit ... pieces and what was consumed, ping and pong between them
 * bye -> <- bye-ack       the last frame of one direction; the other likewise
 * fin ->                  the smaller id knows that all is done; the other end then closes the channel
 * ```
 *
 * @module
 */
import { LinkError } from "./errors.ts";
import type { FrameHeader } from "./frame.ts";
import { greet } from "./greeting.ts";
import { type Arrived, frameCost, LaneBounds, Receiver, Sender } from "./lanes.ts";
import { limits } from "./limits.ts";
import {
  type FrameHandler,
  type Lane,
  LANES,
  type Link,
  type LinkClosed,
  type LinkCounters,
  type LinkOptions,
} from "./link.ts";
import {
  DATA_PREFIX,
  decodeAbort,
  decodeCredit,
  decodeNumber,
  encodeAbort,
  encodeCredit,
  encodeNumber,
  KIND,
} from "./link_wire.ts";
import { Liveness } from "./liveness.ts";
import type { Channel, Timer } from "./runtime.ts";

export class ChannelLink implements Link {
  readonly peer: string;
  readonly kind: string;
  readonly counters: LinkCounters = {
    framesSent: 0,
    framesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
    dropped: 0,
    creditWaits: 0,
    mostHeld: 0,
    roundTrip: NaN,
  };
  onsuspected: ((suspected: boolean) => void) | undefined;
  readonly closed: Promise<LinkClosed>;
  /** Resolves with this link once both ends are ready. */
  readonly opened: Promise<Link>;

  private readonly senders: readonly Sender[];
  private readonly receivers: readonly Receiver[];
  private readonly maxMessage: number;
  private readonly liveness: Liveness;
  private readonly connecting: Timer;
  private linger: Timer | undefined;
  private handler: FrameHandler | undefined;
  /** Frames that came before there was a handler. */
  private early: (() => void)[] = [];

  private state: "hello" | "ready" | "open" | "over" = "hello";
  /** Why the link is over, once it is. */
  private reason = "";
  private closing = false;
  private byeSent = false;
  private byeReceived = false;
  private byeAcknowledged = false;
  private finReceived = false;
  private finSent = false;
  /** The channel is full; a continuation waits for it. */
  private draining = false;
  private scheduled = false;
  /** The lane whose turn is next. */
  private turn = 0;
  private pingId = 0;
  private pingAt = 0;
  private resolveOpened!: (link: Link) => void;
  private rejectOpened!: (error: Error) => void;

  constructor(private readonly channel: Channel, private readonly options: LinkOptions) {
    const { clock } = options;
    this.peer = options.peer;
    this.kind = channel.kind;
    this.maxMessage = Math.min(channel.maxMessage, limits.pieceBytes);
    const bounds = LANES.map((lane) => new LaneBounds(options.lanes[lane]));
    this.senders = bounds.map((bound, lane) => new Sender(lane, bound));
    this.receivers = bounds.map((bound) => new Receiver(bound, options.generation));
    this.opened = new Promise((resolve, reject) => {
      this.resolveOpened = resolve;
      this.rejectOpened = reject;
    });
    this.opened.catch(() => {}); // whoever opened the link has the promise too
    this.connecting = clock.timer(limits.connectMs, () => {
      this.end(`${this.peer} did not answer on the new link within ${limits.connectMs / 1_000} s`, false);
    });
    this.liveness = new Liveness(clock, {
      ping: () => this.ping(),
      suspected: (suspected) => this.onsuspected?.(suspected),
      dead: (ms) => this.end(`${this.peer} has been silent for ${(ms / 1_000).toFixed(1)} s`, false),
    });
    this.closed = channel.closed.then((reason) => {
      const orderly = this.complete;
      if (this.state !== "over") this.end(orderly ? "closed" : `the connection is gone: ${reason}`, false);
      this.linger?.cancel();
      return { orderly, reason: this.reason };
    });
    greet(channel, options).then(() => this.greeted(), (error) => {
      // The greeting has told the peer, and closes the channel.
      this.over(error instanceof Error ? error.message : String(error));
    });
  }

  get onframe(): FrameHandler | undefined {
    return this.handler;
  }

  set onframe(handler: FrameHandler | undefined) {
    this.handler = handler;
    while (this.handler !== undefined && this.early.length > 0) this.early.shift()!();
  }

  send(lane: Lane, header: FrameHeader, parts: readonly Uint8Array[]): Promise<void> {
    if (this.state === "over") return rejected(this.gone());
    if (this.closing) return rejected(new LinkError(`Cannot send to ${this.peer}: the link is closing`));
    try {
      const sent = this.senders[LANES.indexOf(lane)].add(header, parts);
      // The end of a link shows in `closed` too: a caller that does not wait for a send must not bring the program down.
      sent.catch(() => {});
      this.schedule();
      return sent;
    } catch (error) {
      return rejected(error);
    }
  }

  close(): Promise<LinkClosed> {
    if (this.state === "open") {
      this.closing = true;
      this.pump();
    } else if (this.state !== "over") {
      this.abort("closed before it was open");
    }
    return this.closed;
  }

  abort(reason: string): void {
    this.end(reason, true);
  }

  /** Both directions are done and each end knows it. */
  private get complete(): boolean {
    return this.byeReceived && this.byeAcknowledged;
  }

  private gone(): LinkError {
    return new LinkError(`The link to ${this.peer} is over: ${this.reason}`);
  }

  /** Nothing can be sent or received any more. */
  private over(reason: string): void {
    if (this.state === "over") return;
    this.reason = reason;
    const wasOpen = this.state === "open";
    this.state = "over";
    this.connecting.cancel();
    this.liveness.stop();
    const error = wasOpen ? this.gone() : new LinkError(`Cannot open a link to ${this.peer}: ${reason}`);
    for (const sender of this.senders) sender.fail(error);
    if (!wasOpen) this.rejectOpened(error);
  }

  /** Ends the link at once. With `tell`, the peer hears why, if it takes it within a moment. */
  private end(reason: string, tell: boolean): void {
    if (this.state === "over") return;
    this.over(reason);
    if (!tell) return this.channel.close(reason);
    try {
      this.channel.send(encodeAbort(reason));
    } catch {
      return this.channel.close(reason); // closed already
    }
    // The peer closes the channel when it has read the reason; closing here could overtake it.
    this.linger = this.options.clock.timer(limits.suspectedMs, () => this.channel.close(reason));
  }

  private transmit(message: Uint8Array<ArrayBuffer>): void {
    if (this.state === "over") return;
    try {
      this.channel.send(message);
    } catch (error) {
      this.end(`the connection is gone: ${error instanceof Error ? error.message : error}`, false);
    }
  }

  private ping(): void {
    if (this.state !== "open") return;
    this.pingId = (this.pingId + 1) >>> 0;
    this.pingAt = this.options.clock.now();
    this.transmit(encodeNumber(KIND.ping, this.pingId));
    // The other end should have closed by now; all is done here.
    if (this.finSent && this.complete && !this.liveness.heardWithin(limits.suspectedMs)) {
      this.end("closed", false);
    }
  }

  /** Pumps when this turn is over, so that small frames of one turn can share a message. */
  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.pump();
    });
  }

  /** Hands pieces to the channel, lane by lane in turn, until it is full or nothing can go. */
  private pump(): void {
    while (!this.draining && this.state === "open") {
      if (this.channel.buffered() >= limits.highWaterBytes) {
        this.draining = true;
        this.channel.drained(limits.lowWaterBytes).then(() => {
          this.draining = false;
          this.pump();
        });
        return;
      }
      let sender: Sender | undefined;
      for (let i = 0; i < LANES.length && sender === undefined; i++) {
        const next = this.senders[(this.turn + i) % LANES.length];
        if (next.ready(() => this.counters.creditWaits++)) sender = next;
      }
      if (sender === undefined) break;
      this.turn = (sender.number + 1) % LANES.length;
      const { message, ended } = sender.piece(DATA_PREFIX, this.maxMessage);
      message[0] = KIND.data;
      message[1] = sender.number;
      this.transmit(message);
      for (const frame of ended) {
        this.counters.framesSent++;
        this.counters.bytesSent += frame.payloadBytes;
        frame.handedOver();
      }
    }
    if (
      this.closing && !this.byeSent && this.state === "open" && this.senders.every((sender) => sender.empty)
    ) {
      this.byeSent = true;
      this.transmit(Uint8Array.of(KIND.bye));
    }
  }

  private receive(message: Uint8Array<ArrayBuffer>): void {
    if (this.state === "over") {
      // A peer that gives up as well, or has read why we do, need not be waited for.
      if (message[0] === KIND.abort || message[0] === KIND.fin) this.channel.close(this.reason);
      return;
    }
    this.liveness.heard();
    try {
      if (message[0] === KIND.abort) {
        const when = this.state === "open" ? "gave up" : "refuses";
        this.end(`the peer ${when}: ${decodeAbort(message)}`, false);
      } else if (this.state === "ready") this.prepare(message);
      else this.handle(message);
    } catch (error) {
      // Whatever it was, the peer's bytes brought it about: this link cannot go on, the program can.
      this.end(error instanceof Error ? error.message : String(error), true);
    }
  }

  private greeted(): void {
    if (this.state === "over") return;
    this.state = "ready";
    this.receivers.forEach((receiver, lane) => this.transmit(encodeCredit(lane, receiver.bounds.window)));
    this.transmit(Uint8Array.of(KIND.ready));
    this.channel.onmessage = (message) => this.receive(message);
  }

  private prepare(message: Uint8Array<ArrayBuffer>): void {
    if (message[0] === KIND.credit) return this.credit(message);
    if (message[0] !== KIND.ready) throw new LinkError("The peer sends before it is ready");
    for (const sender of this.senders) {
      if (sender.credit < frameCost(sender.bounds.frameBytes)) {
        throw new LinkError(
          `The peer takes ${sender.credit} bytes on the ${
            LANES[sender.number]
          } lane, the plan's largest frame ` +
            `has ${sender.bounds.frameBytes}: the two ends have different plans`,
        );
      }
    }
    this.state = "open";
    this.connecting.cancel();
    this.liveness.start();
    this.resolveOpened(this);
  }

  private handle(message: Uint8Array<ArrayBuffer>): void {
    switch (message[0]) {
      case KIND.data:
        return this.data(message);
      case KIND.credit:
        this.credit(message);
        return this.schedule();
      case KIND.ping:
        return this.transmit(encodeNumber(KIND.pong, decodeNumber(message)));
      case KIND.pong:
        if (decodeNumber(message) === this.pingId) {
          this.counters.roundTrip = this.options.clock.now() - this.pingAt;
        }
        return;
      case KIND.bye:
        if (this.byeReceived || this.receivers.some((receiver) => receiver.busy)) {
          throw new LinkError("The peer says bye in the middle of a frame or twice");
        }
        this.byeReceived = this.closing = true;
        this.transmit(Uint8Array.of(KIND.byeAck));
        this.pump();
        return this.finish();
      case KIND.byeAck:
        if (!this.byeSent) throw new LinkError("The peer answers a bye that was not said");
        this.byeAcknowledged = true;
        return this.finish();
      case KIND.fin:
        this.finReceived = true;
        return this.finish();
      default:
        throw new LinkError(`The peer sends a message of the unknown kind ${message[0]}`);
    }
  }

  /** Goes on with the close handshake once both directions are done. */
  private finish(): void {
    if (!this.complete) return;
    if (this.options.self < this.peer) {
      if (!this.finSent) this.transmit(Uint8Array.of(KIND.fin));
      this.finSent = true;
    } else if (this.finReceived) {
      this.end("closed", false);
    }
  }

  private credit(message: Uint8Array): void {
    const { lane, bytes } = decodeCredit(message);
    if (lane >= LANES.length) throw new LinkError(`The peer grants credit on the unknown lane ${lane}`);
    this.senders[lane].credit += bytes;
  }

  private data(message: Uint8Array<ArrayBuffer>): void {
    const receiver = this.receivers[message[1]];
    if (receiver === undefined) throw new LinkError("The peer sends on an unknown lane");
    if (this.byeReceived) throw new LinkError("The peer sends behind its bye");
    receiver.piece(message.subarray(DATA_PREFIX), (arrived) => {
      this.count();
      this.arrive(message[1], arrived);
    });
    this.count();
  }

  private count(): void {
    const held = this.receivers.reduce((sum, each) => sum + each.held, 0);
    if (held > this.counters.mostHeld) this.counters.mostHeld = held;
  }

  private arrive(lane: number, { header, payload, cost }: Arrived): void {
    let held = true;
    const consumed = () => {
      if (!held) return;
      held = false;
      const grant = this.receivers[lane].consumed(cost);
      if (grant > 0 && this.state === "open" && !this.byeReceived) this.transmit(encodeCredit(lane, grant));
    };
    if (payload === undefined) {
      this.counters.dropped++;
      return consumed();
    }
    this.counters.framesReceived++;
    this.counters.bytesReceived += payload.length;
    const deliver = () => this.handler!(LANES[lane], header, payload, consumed);
    if (this.handler !== undefined && this.early.length === 0) deliver();
    else this.early.push(deliver);
  }
}

function rejected(error: unknown): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(() => {}); // as in send: waiting for it is the caller's choice
  return promise;
}
