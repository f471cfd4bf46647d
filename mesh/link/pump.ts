/**
 * The sending half of a link: pieces of its lanes' frames, lane by lane in turn, as fast as credit, channels and the budget
 * of all links take them.
 *
 * @module
 */
import type { SendBudget } from "./budget.ts";
import type { Bundle } from "./bundle.ts";
import type { Sender } from "./lanes.ts";
import { limits } from "../limits.ts";
import { DATA_PREFIX, KIND } from "./link_wire.ts";
import { NUMBER_PREFIX } from "./path.ts";
import type { Clock, Timer } from "../runtime.ts";

/** What a pump works with. */
export interface PumpOptions {
  readonly clock: Clock;
  /** What all links of this worker may send together; absent: as much as goes. */
  readonly budget?: SendBudget;
  /** Called whenever nothing is left to send. */
  readonly empty: () => void;
}

/** Moves what senders have into a bundle. */
export class Pump {
  readonly counters = { framesSent: 0, bytesSent: 0, creditWaits: 0 };
  private state: "new" | "running" | "over" = "new";
  /** Channels are full, or the budget is used up; a continuation waits for it. */
  private draining = false;
  private scheduled = false;
  /** Until the budget has room. */
  private pause: Timer | undefined;
  /** The lane whose turn is next. */
  private turn = 0;

  /** `senders`: one for each lane. */
  constructor(
    private readonly bundle: Bundle,
    private readonly senders: readonly Sender[],
    private readonly options: PumpOptions,
  ) {}

  /** Frames may leave from now on. */
  start(): void {
    if (this.state === "new") this.state = "running";
  }

  /** Nothing leaves any more. */
  stop(): void {
    this.state = "over";
    this.pause?.cancel();
  }

  /** Runs when this turn is over, so that small frames of one turn can share a message. */
  schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.run();
    });
  }

  /** Hands pieces to the bundle until that is full or nothing can go. */
  run(): void {
    const { budget, clock, empty } = this.options;
    while (!this.draining && this.state === "running") {
      if (this.bundle.buffered() >= limits.highWaterBytes) {
        this.draining = true;
        this.bundle.drained(limits.lowWaterBytes).then(() => this.goOn());
        return;
      }
      const sender = this.next();
      if (sender === undefined) break;
      const wait = budget?.wait() ?? 0;
      if (wait > 0) {
        this.draining = true;
        this.pause = clock.timer(wait, () => this.goOn());
        return;
      }
      this.turn = (sender.number + 1) % this.senders.length;
      this.piece(sender);
    }
    if (this.state === "running" && this.senders.every((sender) => sender.empty)) empty();
  }

  private goOn(): void {
    this.draining = false;
    this.run();
  }

  /** The first lane from the one whose turn it is that has a piece to send and credit for it. */
  private next(): Sender | undefined {
    for (let i = 0; i < this.senders.length; i++) {
      const sender = this.senders[(this.turn + i) % this.senders.length];
      if (sender.ready(() => this.counters.creditWaits++)) return sender;
    }
    return undefined;
  }

  /** Sends the next piece of a lane. */
  private piece(sender: Sender): void {
    const { budget } = this.options;
    // Where little may be sent, signs of life must not wait for large messages.
    const most = budget === undefined ? this.bundle.pieceBytes : limits.pieceBytes;
    const { message, ended } = sender.piece(
      NUMBER_PREFIX + DATA_PREFIX,
      most,
      (bytes) => this.bundle.room(bytes),
    );
    message[NUMBER_PREFIX] = KIND.data;
    message[NUMBER_PREFIX + 1] = sender.number;
    budget?.take(message.length);
    this.bundle.send(message);
    for (const frame of ended) {
      this.counters.framesSent++;
      this.counters.bytesSent += frame.payloadBytes;
      frame.handedOver();
    }
  }
}
