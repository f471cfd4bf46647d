/**
 * Several channels between two workers as one road: messages leave over whichever has room, arrive in the order in which
 * they were sent and exactly once, also when a channel dies or stands still and another takes its place. Each message
 * has a number and is kept until it has arrived; what was under way over a lost channel is sent again.
 *
 * @module
 */
import { InOrder } from "./in_order.ts";
import { Leaving, type LeavingCounters } from "./leaving.ts";
import { limits } from "../limits.ts";
import { encodeAbort } from "./link_wire.ts";
import { Liveness } from "../control/liveness.ts";
import { MEASUREMENTS, Path } from "./path.ts";
import type { Channel, Clock } from "../runtime.ts";

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
export interface BundleCounters extends LeavingCounters {
  /** Of the last ping, ms; NaN before the first. */
  roundTrip: number;
  /** Channels that are open. */
  paths: number;
  /** Channels that died or stood still. */
  lost: number;
  /** Messages that came twice. */
  duplicates: number;
}

/** The channels of one link; see the module's description. */
export class Bundle {
  readonly closed: Promise<string>;
  /** "webrtc (werift)" and the like, of the first channel. */
  kind = "none";

  private events!: BundleEvents;
  private readonly paths: Path[] = [];
  private readonly liveness: Liveness;
  /** Channels to have. */
  private target = 1;
  /** Of the last ping, ms; NaN before the first. */
  private roundTrip = NaN;
  /** Channels that died or stood still. */
  private deaths = 0;
  private started = false;
  private over = false;
  private ending: string | undefined;
  private resolveClosed!: (reason: string) => void;

  private readonly leaving: Leaving;
  private readonly arriving = new InOrder((message) => this.events.message(message));

  constructor(private readonly options: BundleOptions) {
    this.closed = new Promise((resolve) => this.resolveClosed = resolve);
    // Nothing large leaves until the road is measured: behind it nobody could.
    this.leaving = new Leaving(options.clock, this.paths, options.paths !== undefined);
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

  get counters(): BundleCounters {
    return {
      ...this.leaving.counters,
      roundTrip: this.roundTrip,
      paths: this.paths.length,
      lost: this.deaths,
      duplicates: this.arriving.duplicates,
    };
  }

  /** Size of messages at which the first channel is fastest; all others carry them too. */
  get pieceBytes(): number {
    return this.leaving.pieceBytes;
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
      this.leaving.pieceBytes = channel.pieceBytes ?? this.pieceBytes;
    }
    const path: Path = new Path(channel, this.options.clock, {
      heard: () => this.liveness.heard(),
      listening: () => this.leaving.resend(),
      numbered: (number, message) => this.receive(number, message),
      arrived: (messages) => this.leaving.arrived(messages),
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
    return this.leaving.room(bytes);
  }

  /** Queues a message, whose first `NUMBER_PREFIX` bytes are free for its number. */
  send(message: Uint8Array<ArrayBuffer>): void {
    if (!this.ended) this.leaving.send(message);
  }

  /** Bytes that wait in the channel that the next message would take; without end while nothing may leave. */
  buffered(): number {
    return this.leaving.buffered();
  }

  /** Resolves once `buffered()` is at or under `bytes`, or the bundle is over. */
  drained(bytes: number): Promise<void> {
    return this.leaving.drained(bytes);
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
    this.leaving.end();
    this.arriving.clear();
    const paths = [...this.paths];
    for (const { channel } of paths) channel.close(reason);
    Promise.all(paths.map(({ channel }) => channel.closed)).then(() => this.resolveClosed(reason));
  }

  /** True when the other end was heard within the last `ms`. */
  heardWithin(ms: number): boolean {
    return this.liveness.heardWithin(ms);
  }

  private tick(lag: number): void {
    for (const path of [...this.paths]) {
      path.tick(lag);
      // Where others go on, there is no reason to wait for it.
      if (path.stalled && this.paths.some((other) => !other.stalled)) this.drop(path, "stood still");
    }
    this.leaving.hurry();
    if (this.missing > 0) this.options.short?.();
  }

  private measured({ roundTrip }: Path): void {
    this.roundTrip = roundTrip;
    const { paths } = this.options;
    if (paths === undefined || this.paths.every(({ measured }) => measured < MEASUREMENTS)) return;
    this.leaving.begin();
    const shortest = Math.min(...this.paths.map((path) => path.shortest).filter(Number.isFinite));
    this.target = Math.max(1, Math.min(limits.paths, Math.ceil(paths(shortest))));
    if (this.missing > 0) this.options.short?.();
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
    if (this.ending !== undefined) {
      if (this.paths.length === 0) this.close(this.ending);
      return;
    }
    this.deaths++;
    this.leaving.lost(path);
    if (this.paths.length === 0) this.events.alone(reason, this.options.short === undefined);
    if (this.missing > 0) this.options.short?.();
  }

  private receive(number: number, message: Uint8Array<ArrayBuffer>): void {
    if (!this.ended) this.arriving.receive(number, message);
  }
}
