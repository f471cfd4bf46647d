/**
 * Several channels between two workers as one road: messages leave over whichever has room, arrive in the order in which
 * they were sent and exactly once, also when a channel dies or stands still and another takes its place. Each message
 * has a number and is kept until it has arrived; what was under way over a lost channel is sent again.
 *
 * @module
 */
import { InOrder } from "./in_order.ts";
import { Kept } from "./kept.ts";
import { limits } from "../limits.ts";
import { encodeAbort } from "./link_wire.ts";
import { Liveness } from "../control/liveness.ts";
import { MEASUREMENTS, type Numbered, Path } from "./path.ts";
import type { Channel, Clock } from "../runtime.ts";

/** Messages that are hurried at a time: as many full ones as a channel may hold. */
const HURRIED = Math.floor(limits.highWaterBytes / limits.pieceBytes);

/** What a bundle tells its link. */
export interface BundleEvents {
  /** The first channel is there. */
  opened(): void;
  /** The next message. Its memory may be used again afterwards. */
  message(message: Uint8Array<ArrayBuffer>): void;
  suspected(suspected: boolean): void;
  /** No channel is left; `final`: and none will follow. */
  alone(reason: string, final: boolean): void;
  /** The link cannot go on: the peer gives up, does what it must not, or has been silent for too long. */
  failed(reason: string, tell: boolean): void;
}

/** How a bundle gets its channels. */
export interface BundleOptions {
  readonly clock: Clock;
  /** For errors. */
  readonly peer: string;
  /**
   * Called when the bundle should have more channels than it has, and again when it still should; whoever is called
   * adds them. Absent: there is one channel, and the bundle ends with it.
   */
  readonly short?: () => void;
  /** Channels to have at a time, given the shortest round trip in ms, once that is known. Default: one. */
  readonly paths?: (roundTrip: number) => number;
}

/** What a bundle counted. */
export interface BundleCounters {
  /** Of the last ping, ms; NaN before the first. */
  roundTrip: number;
  /** Channels that are open. */
  paths: number;
  /** Channels that died or stood still. */
  lost: number;
  /** Messages sent again because their channel died or stood still. */
  resent: number;
  /** Messages that came twice. */
  duplicates: number;
  /** Bytes known to have arrived, and the time in which there were any under way, ms: goodput is one by the other. */
  arrivedBytes: number;
  sendingMs: number;
}

export class Bundle {
  readonly closed: Promise<string>;
  readonly counters: BundleCounters = {
    roundTrip: NaN,
    paths: 0,
    lost: 0,
    resent: 0,
    duplicates: 0,
    arrivedBytes: 0,
    sendingMs: 0,
  };
  /** "webrtc (werift)" and the like, of the first channel. */
  kind = "none";
  /** Size of messages at which the first channel is fastest; all others carry them too. */
  pieceBytes: number = limits.pieceBytes;

  private events!: BundleEvents;
  private readonly paths: Path[] = [];
  private readonly liveness: Liveness;
  /** Channels to have. */
  private target = 1;
  /** How many that are is not known yet. Nothing large leaves until then: behind it nobody could measure the road. */
  private measuring: boolean;
  private started = false;
  private over = false;
  private ending: string | undefined;
  private resolveClosed!: (reason: string) => void;

  private readonly kept = new Kept();
  /** Messages for which there was no channel, or whose channel was lost, by number. */
  private again: Numbered[] = [];
  private sendingSince = 0;
  private readonly arriving = new InOrder((message) => this.events.message(message));
  /** Resolves when room may have come. */
  private changed = Promise.withResolvers<void>();

  constructor(private readonly options: BundleOptions) {
    this.closed = new Promise((resolve) => this.resolveClosed = resolve);
    this.measuring = options.paths !== undefined;
    this.liveness = new Liveness(options.clock, {
      ping: (lag) => this.tick(lag),
      suspected: (suspected) => this.events.suspected(suspected),
      dead: (ms) => {
        this.events.failed(`${options.peer} has been silent for ${(ms / 1_000).toFixed(1)} s`, false);
      },
    });
  }

  /** Whom to tell; once, before the first channel. */
  listen(events: BundleEvents): void {
    this.events = events;
  }

  /** True when it takes no channels any more. */
  get ended(): boolean {
    return this.over || this.ending !== undefined;
  }

  /** How many channels it lacks. */
  get missing(): number {
    if (this.ended) return 0;
    return Math.max(0, this.target - this.paths.filter((path) => !path.stalled).length);
  }

  /** Takes a channel that has been greeted. */
  add(channel: Channel): void {
    if (this.ended) return channel.close("the link is over");
    if (channel.maxMessage < this.pieceBytes) {
      return channel.close(`takes messages of ${channel.maxMessage} bytes, a link needs ${this.pieceBytes}`);
    }
    if (this.paths.length >= 2 * limits.paths) {
      return channel.close("there are more channels than any link needs");
    }
    if (!this.started) {
      this.kind = channel.kind;
      this.pieceBytes = channel.pieceBytes ?? this.pieceBytes;
    }
    const path: Path = new Path(channel, this.options.clock, {
      heard: () => this.liveness.heard(),
      listening: () => this.resend(),
      numbered: (number, message) => this.receive(number, message),
      arrived: (messages) => this.arrived(messages),
      measured: (path) => this.measured(path),
      aborted: (reason) => {
        if (this.ending !== undefined) return this.close(this.ending);
        this.events.failed(`the peer ${this.started ? "gave up" : "refuses"}: ${reason}`, false);
      },
      violated: (error) => this.events.failed(error.message, true),
      closed: (path, reason) => this.lost(path, reason),
    });
    const old = this.paths.filter((each) => each.stalled);
    this.paths.push(path);
    this.counters.paths = this.paths.length;
    // Those that stand still have been replaced by this one; what they hold is sent again.
    for (const each of old) this.drop(each, "stood still");
    if (!this.started) {
      this.started = true;
      this.liveness.start();
      this.events.opened();
    }
    path.start(); // only now: what came early is delivered at once, to a link that is ready for it
  }

  /** Memory for a message of so many bytes to {@linkcode send}: for large ones that of one that has arrived. */
  room(bytes: number): Uint8Array<ArrayBuffer> {
    return this.kept.room(bytes, this.pieceBytes);
  }

  /** Queues a message, whose first `NUMBER_PREFIX` bytes are free for its number. */
  send(message: Uint8Array<ArrayBuffer>): void {
    if (this.ended) return;
    if (this.kept.cost === 0) this.sendingSince = this.options.clock.now();
    const numbered = this.kept.add(message);
    if (this.again.length > 0 || !this.hand(numbered)) this.again.push(numbered);
  }

  /** Bytes that wait in the channel that the next message would take; without end while nothing may leave. */
  buffered(): number {
    if (this.over) return 0;
    return this.full ? Infinity : this.roomiest()?.channel.buffered() ?? Infinity;
  }

  /** Resolves once `buffered()` is at or under `bytes`, or the bundle is over. */
  async drained(bytes: number): Promise<void> {
    while (!this.over && this.buffered() > bytes) {
      // Any of them may be the first to have room: a channel's queue often empties at one blow.
      const paths = this.full ? [] : this.paths.filter(({ listens }) => listens);
      await Promise.race([this.changed.promise, ...paths.map((path) => path.drained(bytes))]);
    }
  }

  /** True while nothing more may leave, whatever channels hold. */
  private get full(): boolean {
    return this.measuring || this.kept.cost >= limits.unarrivedBytes || this.again.length > 0;
  }

  /** Tells the other end why it is over, waits a moment for it to close, and closes. */
  abort(reason: string): void {
    if (this.ended) return;
    this.ending = reason;
    this.liveness.stop();
    let told = false;
    for (const { channel } of this.paths) {
      try {
        channel.send(encodeAbort(reason));
        told = true;
      } catch {
        // Closed already; there may be another.
      }
    }
    if (!told) return this.close(reason);
    // The peer closes when it has read the reason; closing here could overtake it.
    const linger = this.options.clock.timer(limits.suspectedMs, () => this.close(reason));
    this.closed.then(() => linger.cancel());
  }

  close(reason: string): void {
    if (this.over) return;
    this.over = true;
    this.liveness.stop();
    this.kept.clear();
    this.again.length = 0;
    this.arriving.clear();
    this.change();
    const paths = [...this.paths];
    for (const { channel } of paths) channel.close(reason);
    Promise.all(paths.map(({ channel }) => channel.closed)).then(() => this.resolveClosed(reason));
  }

  /** True when the other end was heard within the last `ms`. */
  heardWithin(ms: number): boolean {
    return this.liveness.heardWithin(ms);
  }

  private change(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers();
  }

  private tick(lag: number): void {
    for (const path of [...this.paths]) {
      path.tick(lag);
      // Where others go on, there is no reason to wait for it.
      if (path.stalled && this.paths.some((other) => !other.stalled)) this.drop(path, "stood still");
    }
    this.hurry();
    if (this.missing > 0) this.options.short?.();
  }

  private measured({ roundTrip }: Path): void {
    this.counters.roundTrip = roundTrip;
    const { paths } = this.options;
    if (paths === undefined || this.paths.every(({ measured }) => measured < MEASUREMENTS)) return;
    if (this.measuring) {
      this.measuring = false;
      this.change();
    }
    const shortest = Math.min(...this.paths.map((path) => path.shortest).filter(Number.isFinite));
    this.target = Math.max(1, Math.min(limits.paths, Math.ceil(paths(shortest))));
    if (this.missing > 0) this.options.short?.();
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
      return false; // its channel has just closed, which `lost` will hear of
    }
  }

  /**
   * The oldest messages under way hold up all others: where nothing arrives over their channel for a second, they are sent
   * over another one, too.
   */
  private hurry(): void {
    const { oldest } = this.kept, now = this.options.clock.now();
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

  private resend(): void {
    let sent = 0;
    for (const message of this.again) {
      if (!this.hand(message)) break;
      sent++;
    }
    if (sent === 0) return this.change();
    this.again.splice(0, sent);
    this.change();
  }

  private drop(path: Path, reason: string): void {
    this.lost(path, reason);
    path.channel.close(reason);
  }

  /** A channel is gone: what was under way over it goes over the others. */
  private lost(path: Path, reason: string): void {
    const at = this.paths.indexOf(path);
    if (at < 0) return;
    if (this.over) return;
    this.paths.splice(at, 1);
    this.counters.paths = this.paths.length;
    if (this.ending !== undefined) {
      if (this.paths.length === 0) this.close(this.ending);
      return;
    }
    this.counters.lost++;
    // Some may be under way over another channel as well, and arrive twice.
    const under = path.giveUp();
    for (const message of under) message.again = true;
    this.counters.resent += under.length;
    this.again = [...under, ...this.again].sort((a, b) => a.number - b.number | 0);
    this.resend();
    if (this.paths.length === 0) this.events.alone(reason, this.options.short === undefined);
    if (this.missing > 0) this.options.short?.();
  }

  private arrived(messages: readonly Numbered[]): void {
    const now = this.options.clock.now();
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

  private receive(number: number, message: Uint8Array<ArrayBuffer>): void {
    if (this.ended) return;
    this.arriving.receive(number, message);
    this.counters.duplicates = this.arriving.duplicates;
  }
}
