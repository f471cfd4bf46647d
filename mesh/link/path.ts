/**
 * One channel of a bundle: what was sent over it and has not arrived, whether it still makes progress, its round trip.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { whyRefused } from "./handshake.ts";
import { limits } from "../limits.ts";
import { decodeAbort, decodeNumber, encodeNumber, KIND } from "./link_wire.ts";
import type { Channel, Clock, Timer } from "../runtime.ts";

/** Bytes before a message's own that its number takes. */
export const NUMBER_PREFIX = 5;

/** What keeping a message costs beside its bytes: the objects around it. */
export const MESSAGE_COST = 256;

/** A message with its place in the order of its bundle; kept until it has arrived. */
export interface Numbered {
  readonly number: number;
  /** {@linkcode NUMBER_PREFIX} bytes, then the message. */
  readonly message: Uint8Array<ArrayBuffer>;
  /** When it was last handed to a channel. */
  sentAt: number;
  arrived: boolean;
  /** It was handed to more than one channel, or is to be. */
  again: boolean;
}

/** What a path tells its bundle. */
export interface PathEvents {
  /** Something came. */
  heard(): void;
  /** Something came for the first time: the other end listens. */
  listening(): void;
  /** A message came; it may be a second copy, and its memory may be used again afterwards. */
  numbered(number: number, message: Uint8Array<ArrayBuffer>): void;
  /** What was sent before has arrived. */
  arrived(messages: readonly Numbered[]): void;
  /** The first round trip, and each that follows. */
  measured(path: Path): void;
  /** The other end gives up. */
  aborted(reason: string): void;
  /** The other end does what it must not. */
  violated(error: Error): void;
  closed(path: Path, reason: string): void;
}

/** Round trips measured before their shortest is believed: a few may show how busy this program is. */
export const MEASUREMENTS = 4;

/** Ids of pings are times in tenths of a millisecond, so that any answer tells how long it took. */
const PING_UNIT_MS = 0.1;

/** One channel as its bundle sees it. */
export class Path {
  /** Of the last ping, ms, with what waited in front of it; NaN before the first. */
  roundTrip = NaN;
  /** The shortest of those that nothing waited in front of, and how many there were: the road's own. */
  shortest = NaN;
  measured = 0;
  /** The other end listens: numbered messages before that could be more than it keeps for later. */
  listens = false;
  /** Sent and not known to have arrived, in the order of sending. */
  outstanding: Numbered[] = [];
  /** When something that was sent last showed to have arrived. */
  private progress: number;
  /** Messages that came, and how many of them the other end knows of; both modulo 2^32. */
  private received = 0;
  private told = 0;
  private untold = 0;
  /** Messages of ours that the other end has said to have, modulo 2^32. */
  private confirmed = 0;
  private telling: Timer | undefined;
  private draining: Promise<void> | undefined;
  /** Nothing to speak of waited when the last ping left. */
  private idle = true;

  /** `channel` has been greeted. */
  constructor(
    readonly channel: Channel,
    private readonly clock: Clock,
    private readonly events: PathEvents,
  ) {
    this.progress = clock.now();
    channel.onactivity = () => events.heard();
    channel.closed.then((reason) => {
      this.telling?.cancel();
      events.closed(this, reason);
    });
  }

  /** Begins to listen and to measure; not before the bundle knows the path. */
  start(): void {
    this.ping();
    this.channel.onmessage = (message) => {
      this.events.heard();
      try {
        if (!this.listens) {
          this.listens = true;
          this.events.listening();
        }
        this.receive(message);
        this.channel.spent?.(message);
      } catch (error) {
        // Whatever it was, the peer's bytes brought it about: the link cannot go on, the program can.
        this.events.violated(error instanceof Error ? error : new Error(String(error)));
      }
    };
  }

  /** True when nothing that was sent has shown to arrive for too long. */
  get stalled(): boolean {
    return this.clock.now() - this.progress >= limits.stalledMs;
  }

  /** True when something that was sent has shown to arrive within the last `ms`. */
  progressWithin(ms: number): boolean {
    return this.clock.now() - this.progress < ms;
  }

  /** Sends a numbered message and keeps it until it has arrived. Throws where the channel is closed. */
  send(message: Numbered): void {
    this.channel.send(message.message);
    message.sentAt = this.clock.now();
    this.outstanding.push(message);
  }

  /** Takes back everything that is under way and has not arrived over another path. */
  giveUp(): Numbered[] {
    return this.outstanding.splice(0).filter(({ arrived }) => !arrived);
  }

  /** A heartbeat; `lag` is time in which this program could not run, which says nothing about the other end. */
  tick(lag: number): void {
    this.progress = Math.min(this.clock.now(), this.progress + lag);
    this.ping();
  }

  /** As the channel's own, but asked for once at a time. */
  drained(bytes: number): Promise<void> {
    return this.draining ??= this.channel.drained(bytes).then(() => this.draining = undefined);
  }

  private ping(): void {
    this.idle = this.channel.buffered() <= limits.pieceBytes;
    this.transmit(encodeNumber(KIND.ping, Math.round(this.clock.now() / PING_UNIT_MS) >>> 0));
  }

  private transmit(message: Uint8Array<ArrayBuffer>): void {
    try {
      this.channel.send(message);
    } catch {
      // Closed: `events.closed` tells.
    }
  }

  private receive(message: Uint8Array<ArrayBuffer>): void {
    switch (message[0]) {
      case KIND.numbered: {
        if (message.length < NUMBER_PREFIX + 1) {
          throw new LinkError("The peer sends a message without content");
        }
        const number = new DataView(message.buffer, message.byteOffset + 1, 4).getUint32(0, true);
        this.received = this.received + 1 >>> 0;
        this.untold += message.length;
        if (this.untold >= limits.toldBytes) this.tell();
        else this.telling ??= this.clock.timer(limits.arrivedMs, () => this.tell());
        return this.events.numbered(number, message.subarray(NUMBER_PREFIX));
      }
      case KIND.arrived:
        return this.confirm(decodeNumber(message));
      case KIND.ping:
        return this.transmit(encodeNumber(KIND.pong, decodeNumber(message)));
      case KIND.pong:
        return this.pong(decodeNumber(message));
      case KIND.abort:
        return this.events.aborted(decodeAbort(message));
      case KIND.refuse:
        return this.channel.close(whyRefused(message, "the peer")); // this end was content with the handshake
      default:
        throw new LinkError(`The peer sends a message of the unknown kind ${message[0]}`);
    }
  }

  /** Says how many messages came. */
  private tell(): void {
    this.telling?.cancel();
    this.telling = undefined;
    this.untold = 0;
    if (this.told === this.received) return;
    this.told = this.received;
    this.transmit(encodeNumber(KIND.arrived, this.received));
  }

  private confirm(count: number): void {
    const more = count - this.confirmed >>> 0;
    if (more > this.outstanding.length) {
      throw new LinkError("The peer says that more has arrived than was sent");
    }
    if (more === 0) return;
    this.confirmed = count;
    this.progress = this.clock.now();
    this.events.arrived(this.outstanding.splice(0, more));
  }

  private pong(id: number): void {
    const took = ((Math.round(this.clock.now() / PING_UNIT_MS) >>> 0) - id >>> 0) * PING_UNIT_MS;
    // Only a ping of ours from before the peer would count as dead can be meant.
    if (took > limits.deadMs) return;
    this.progress = this.clock.now();
    this.roundTrip = took;
    if (this.idle) {
      this.measured++;
      if (!(this.shortest <= took)) this.shortest = took;
    }
    this.events.measured(this);
    if (this.measured < MEASUREMENTS && this.idle) this.ping();
  }
}
