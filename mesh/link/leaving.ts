/**
 * The sending half of a bundle: each message goes to the channel with the most room, is kept until it has arrived, and
 * goes again where its channel is lost or holds up all others.
 *
 * @module
 */
import { Kept } from "./kept.ts";
import { limits } from "../limits.ts";
import type { Numbered, Path } from "./path.ts";
import type { Clock } from "../runtime.ts";

/** Messages that are hurried at a time: as many full ones as a channel may hold. */
const HURRIED = Math.floor(limits.highWaterBytes / limits.pieceBytes);

/** What the sending half of a bundle counted. */
export interface LeavingCounters {
  /** Messages sent again because their channel died or stood still. */
  resent: number;
  /** Bytes known to have arrived, and the time in which there were any under way, ms: goodput is one by the other. */
  arrivedBytes: number;
  sendingMs: number;
}

/** Messages on their way out of a bundle. */
export class Leaving {
  readonly counters: LeavingCounters = { resent: 0, arrivedBytes: 0, sendingMs: 0 };
  /** Size of messages at which the first channel is fastest; all others carry them too. */
  pieceBytes: number = limits.pieceBytes;
  private readonly kept = new Kept();
  /** Messages for which there was no channel, or whose channel was lost, by number. */
  private again: Numbered[] = [];
  private sendingSince = 0;
  /** Resolves when room may have come. */
  private changed = Promise.withResolvers<void>();
  private over = false;

  /** `paths`: the bundle's channels as they are at any time. `waits`: nothing large may leave yet. */
  constructor(
    private readonly clock: Clock,
    private readonly paths: readonly Path[],
    private waits: boolean,
  ) {}

  /** Memory for a message of so many bytes: for large ones that of one that has arrived. */
  room(bytes: number): Uint8Array<ArrayBuffer> {
    return this.kept.room(bytes, this.pieceBytes);
  }

  /** Queues a message, whose first `NUMBER_PREFIX` bytes are free for its number. */
  send(message: Uint8Array<ArrayBuffer>): void {
    if (this.kept.cost === 0) this.sendingSince = this.clock.now();
    const numbered = this.kept.add(message);
    if (this.again.length > 0 || !this.hand(numbered)) this.again.push(numbered);
  }

  /** Bytes that wait in the channel that the next message would take; without end while nothing may leave. */
  buffered(): number {
    if (this.over) return 0;
    return this.full ? Infinity : this.roomiest()?.channel.buffered() ?? Infinity;
  }

  /** Resolves once `buffered()` is at or under `bytes`, or all is over. */
  async drained(bytes: number): Promise<void> {
    while (!this.over && this.buffered() > bytes) {
      // Any of them may be the first to have room: a channel's queue often empties at one blow.
      const paths = this.full ? [] : this.paths.filter(({ listens }) => listens);
      await Promise.race([this.changed.promise, ...paths.map((path) => path.drained(bytes))]);
    }
  }

  /** Large messages may leave from now on. */
  begin(): void {
    if (!this.waits) return;
    this.waits = false;
    this.change();
  }

  /** What was sent before has arrived. */
  arrived(messages: readonly Numbered[]): void {
    const now = this.clock.now();
    this.counters.sendingMs += now - this.sendingSince;
    this.sendingSince = now;
    for (const message of messages) {
      if (message.arrived) continue; // over another channel
      message.arrived = true;
      this.counters.arrivedBytes += message.message.length;
    }
    this.kept.release(this.pieceBytes);
    this.change();
  }

  /** A channel is gone, which is no longer among the others: what was under way over it goes over them. */
  lost(path: Path): void {
    // Some may be under way over another channel as well, and arrive twice.
    const under = path.giveUp();
    for (const message of under) message.again = true;
    this.counters.resent += under.length;
    this.again = [...under, ...this.again].sort((a, b) => a.number - b.number | 0);
    this.resend();
  }

  /** Sends what found no channel, as far as there is one now. */
  resend(): void {
    let sent = 0;
    for (const message of this.again) {
      if (!this.hand(message)) break;
      sent++;
    }
    this.again.splice(0, sent);
    this.change();
  }

  /**
   * The oldest messages under way hold up all others: where nothing arrives over their channel for a second, they are sent
   * over another one, too.
   */
  hurry(): void {
    const { oldest } = this.kept, now = this.clock.now();
    if (oldest === undefined || this.paths.length < 2 || now - oldest.sentAt < limits.suspectedMs) return;
    const path = this.paths.find(({ outstanding }) => outstanding.includes(oldest));
    if (path === undefined || path.progressWithin(limits.suspectedMs)) return;
    const late = path.outstanding.filter(({ arrived, sentAt }) =>
      !arrived && now - sentAt >= limits.suspectedMs
    );
    for (const message of late.slice(0, HURRIED)) {
      message.again = true;
      if (this.hand(message, path)) this.counters.resent++;
    }
  }

  /** Forgets everything; whoever waits for room goes on. */
  end(): void {
    this.over = true;
    this.kept.clear();
    this.again.length = 0;
    this.change();
  }

  /** True while nothing more may leave, whatever channels hold. */
  private get full(): boolean {
    return this.waits || this.kept.cost >= limits.unarrivedBytes || this.again.length > 0;
  }

  private change(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers();
  }

  /** The channel with the most room among those whose other end listens, `but` for one. */
  private roomiest(but?: Path): Path | undefined {
    let best: Path | undefined, least = Infinity;
    for (const path of this.paths) {
      if (path === but || !path.listens) continue;
      // One that stands still only where there is no other.
      const buffered = path.channel.buffered() + (path.stalled ? 1e12 : 0);
      if (buffered < least) [best, least] = [path, buffered];
    }
    return best;
  }

  /** Gives a message to the roomiest channel, `but` for one; false where there is none. */
  private hand(message: Numbered, but?: Path): boolean {
    const best = this.roomiest(but);
    if (best === undefined) return false;
    try {
      best.send(message);
      return true;
    } catch {
      return false; // its channel has just closed, of which the bundle will hear
    }
  }
}
