/**
 * `Link` over a bundle of channels: lanes with credit, and a close that loses nothing.
 *
 * ```text
 * credit x3, ready ->     what you may send; the other end likewise: open
 * data ... <-> credit ... pieces and what was consumed
 * bye -> <- bye-ack       the last frame of one direction; the other likewise
 * fin ->                  the smaller id knows that all is done; the other end then closes the channels
 * ```
 *
 * @module
 */
import type { Bundle } from "./bundle.ts";
import { LinkError } from "../errors.ts";
import { Farewell } from "./farewell.ts";
import type { FrameHeader } from "../tensors/frame.ts";
import { type Arrived, frameCost, LaneBounds, Receiver, Sender } from "./lanes.ts";
import { limits } from "../limits.ts";
import {
  type FrameHandler,
  type Lane,
  LANES,
  type Link,
  type LinkClosed,
  type LinkCounters,
  type LinkOptions,
} from "./link.ts";
import { DATA_PREFIX, decodeCredit, encodeCredit, KIND } from "./link_wire.ts";
import { NUMBER_PREFIX } from "./path.ts";
import { Pump } from "./pump.ts";
import type { Timer } from "../runtime.ts";

/** One end of a link; see the module's description. */
export class ChannelLink implements Link {
  readonly peer: string;
  onsuspected: ((suspected: boolean) => void) | undefined;
  readonly closed: Promise<LinkClosed>;
  /** Resolves with this link once both ends are ready. */
  readonly opened: Promise<Link>;

  private readonly senders: readonly Sender[];
  private readonly receivers: readonly Receiver[];
  private readonly count = {
    framesReceived: 0,
    bytesReceived: 0,
    dropped: 0,
    mostHeld: 0,
    streamedBytes: 0,
    streamingMs: 0,
  };
  /** When the last piece of a frame came. */
  private pieceAt = 0;
  private connecting: Timer | undefined;
  private handler: FrameHandler | undefined;
  /** Frames that came before there was a handler. */
  private early: (() => void)[] = [];

  private state: "new" | "ready" | "open" | "over" = "new";
  /** Why the link is over, once it is. */
  private reason = "";
  private readonly farewell: Farewell;
  private readonly pump: Pump;
  private resolveOpened!: (link: Link) => void;
  private rejectOpened!: (error: Error) => void;

  constructor(private readonly bundle: Bundle, private readonly options: LinkOptions) {
    this.peer = options.peer;
    const bounds = LANES.map((lane) => new LaneBounds(options.lanes[lane]));
    this.senders = bounds.map((bound, lane) => new Sender(lane, bound));
    this.receivers = bounds.map((bound) => new Receiver(bound, options.generation));
    this.farewell = new Farewell(
      options.self < options.peer,
      (kind) => this.transmit(Uint8Array.of(kind)),
      () => this.end("closed", false),
    );
    const { clock, budget } = options;
    this.pump = new Pump(bundle, this.senders, { clock, budget, empty: () => this.farewell.lastLeft() });
    this.opened = new Promise((resolve, reject) => {
      this.resolveOpened = resolve;
      this.rejectOpened = reject;
    });
    this.opened.catch(() => {}); // whoever opened the link has the promise too
    this.closed = bundle.closed.then(() => ({ orderly: this.farewell.complete, reason: this.reason }));
    bundle.listen({
      opened: () => this.ready(),
      message: (message) => this.receive(message),
      suspected: (suspected) => {
        // All is done here and the other end was told so: it has closed, or is gone, which makes no difference.
        if (suspected && this.farewell.told) return this.end("closed", false);
        this.onsuspected?.(suspected);
      },
      alone: (reason, final) => {
        if (this.farewell.complete) this.end("closed", false);
        else if (final) this.end(`the connection is gone: ${reason}`, false);
      },
      failed: (reason, tell) => this.end(reason, tell),
    });
  }

  get kind(): string {
    return this.bundle.kind;
  }

  get counters(): LinkCounters {
    return { ...this.count, ...this.pump.counters, ...this.bundle.counters };
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
    if (this.farewell.closing) {
      return rejected(new LinkError(`Cannot send to ${this.peer}: the link is closing`));
    }
    try {
      const sent = this.senders[LANES.indexOf(lane)].add(header, parts);
      // The end of a link shows in `closed` too: a caller that does not wait for a send must not bring the program down.
      sent.catch(() => {});
      this.pump.schedule();
      return sent;
    } catch (error) {
      return rejected(error);
    }
  }

  close(): Promise<LinkClosed> {
    if (this.state === "open") {
      this.farewell.closing = true;
      this.pump.run();
    } else if (this.state !== "over") {
      this.abort("closed before it was open");
    }
    return this.closed;
  }

  abort(reason: string): void {
    this.end(reason, true);
  }

  private gone(): LinkError {
    return new LinkError(`The link to ${this.peer} is over: ${this.reason}`);
  }

  /** Ends the link at once. With `tell`, the peer hears why, if it takes it within a moment. */
  private end(reason: string, tell: boolean, cause?: Error): void {
    if (this.state === "over") return;
    this.reason = reason;
    const wasOpen = this.state === "open";
    this.state = "over";
    this.connecting?.cancel();
    this.pump.stop();
    const error = cause ??
      (wasOpen ? this.gone() : new LinkError(`Cannot open a link to ${this.peer}: ${reason}`));
    for (const sender of this.senders) sender.fail(error);
    if (!wasOpen) this.rejectOpened(error);
    if (tell) this.bundle.abort(reason);
    else this.bundle.close(reason);
  }

  /** Gives up, with this error, unless the link is open (or was). */
  giveUp(error: Error): void {
    if (this.state === "new" || this.state === "ready") this.end(error.message, true, error);
  }

  private transmit(message: Uint8Array): void {
    const numbered = new Uint8Array(NUMBER_PREFIX + message.length);
    numbered.set(message, NUMBER_PREFIX);
    this.bundle.send(numbered);
  }

  private receive(message: Uint8Array): void {
    if (this.state === "over") return;
    if (this.state === "ready") this.prepare(message);
    else this.handle(message);
  }

  /** The first channel is there: says what may be sent here. */
  private ready(): void {
    if (this.state !== "new") return;
    this.state = "ready";
    this.connecting = this.options.clock.timer(limits.connectMs, () => {
      this.end(`${this.peer} was not ready within ${limits.connectMs / 1_000} s`, true);
    });
    this.receivers.forEach((receiver, lane) => this.transmit(encodeCredit(lane, receiver.bounds.window)));
    this.transmit(Uint8Array.of(KIND.ready));
  }

  private prepare(message: Uint8Array): void {
    if (message[0] === KIND.credit) return this.credit(message);
    if (message[0] !== KIND.ready) throw new LinkError("The peer sends before it is ready");
    for (const sender of this.senders) {
      if (sender.credit < frameCost(sender.bounds.frameBytes)) {
        const lane = LANES[sender.number], { frameBytes } = sender.bounds;
        throw new LinkError(
          `The peer takes ${sender.credit} bytes on the ${lane} lane, the plan's largest frame has ${frameBytes}: ` +
            "the two ends have different plans",
        );
      }
    }
    this.state = "open";
    this.pump.start();
    this.connecting?.cancel();
    this.resolveOpened(this);
  }

  private handle(message: Uint8Array): void {
    switch (message[0]) {
      case KIND.data:
        return this.data(message);
      case KIND.credit:
        this.credit(message);
        return this.pump.schedule();
      case KIND.bye:
      case KIND.byeAck:
      case KIND.fin:
        return this.farewell.receive(
          message[0],
          this.receivers.some(({ busy }) => busy),
          () => this.pump.run(),
        );
      default:
        throw new LinkError(`The peer sends a message of the unknown kind ${message[0]}`);
    }
  }

  private credit(message: Uint8Array): void {
    const { lane, bytes } = decodeCredit(message);
    if (lane >= LANES.length) throw new LinkError(`The peer grants credit on the unknown lane ${lane}`);
    this.senders[lane].credit += bytes;
  }

  private data(message: Uint8Array): void {
    const receiver = this.receivers[message[1]];
    if (receiver === undefined) throw new LinkError("The peer sends on an unknown lane");
    if (this.farewell.heard) throw new LinkError("The peer sends behind its bye");
    this.streamed(message.length);
    receiver.piece(message.subarray(DATA_PREFIX), (arrived) => {
      this.measure();
      this.arrive(message[1], arrived);
    });
    this.measure();
  }

  /** In the middle of a frame the other end had this piece to send since the one before. */
  private streamed(bytes: number): void {
    const now = this.options.clock.now();
    if (this.receivers.some((receiver) => receiver.busy)) {
      this.count.streamedBytes += bytes;
      this.count.streamingMs += now - this.pieceAt;
    }
    this.pieceAt = now;
  }

  private measure(): void {
    const held = this.receivers.reduce((sum, each) => sum + each.held, 0);
    if (held > this.count.mostHeld) this.count.mostHeld = held;
  }

  private arrive(lane: number, { header, payload, cost }: Arrived): void {
    let held = true;
    const consumed = () => {
      if (!held) return;
      held = false;
      const grant = this.receivers[lane].consumed(cost);
      if (grant > 0 && this.state === "open" && !this.farewell.heard) {
        this.transmit(encodeCredit(lane, grant));
      }
    };
    if (payload === undefined) {
      this.count.dropped++;
      return consumed();
    }
    this.count.framesReceived++;
    this.count.bytesReceived += payload.length;
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
