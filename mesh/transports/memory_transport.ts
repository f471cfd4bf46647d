/**
 * Channels between two ends in one process: at once, or with delay, bandwidth and loss on a clock.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Channel, ChannelBinding, Clock, Signal, Transport } from "../runtime.ts";

/** What lies between the two ends; nothing where all is absent. */
export interface MemoryOptions {
  /** Needed for a delay or a bandwidth. */
  readonly clock?: Clock;
  /** From one end to the other. */
  readonly latencyMs?: number;
  /** Of each direction; unlimited where absent. */
  readonly bytesPerSecond?: number;
  /** Share of messages that are lost and sent again, which holds up those behind them; from `chance`. */
  readonly loss?: number;
  /** Numbers from 0 up to 1. */
  readonly chance?: () => number;
  /** Largest message in bytes (1 MiB). */
  readonly maxMessage?: number;
}

/** Until a lost message is sent again, beyond a round trip, ms: TCP's and SCTP's least. */
const AGAIN_MS = 200;

/** Two ends of one channel. Messages are handed over, not copied: whoever sends one must not touch it again. */
export function memoryChannelPair(options: MemoryOptions = {}): [MemoryChannel, MemoryChannel] {
  if (
    options.clock === undefined &&
      (options.latencyMs !== undefined || options.bytesPerSecond !== undefined) ||
    options.loss !== undefined && options.chance === undefined
  ) {
    throw new LinkError(
      "Cannot make a slow channel in memory without a clock, or a lossy one without chance",
    );
  }
  const a = new MemoryChannel(options), b = new MemoryChannel(options);
  a.other = b;
  b.other = a;
  const shared = new TextEncoder().encode(`memory ${pairs++}`);
  a.binding = b.binding = { shared, proven: false };
  return [a, b];
}

/** Pairs that were made so far in this process: the number of one tells it from all others, and nobody stands between. */
let pairs = 0;

/** One end. Delivers each message, and then the other end's close, in a microtask or at its time on the clock. */
export class MemoryChannel implements Channel {
  readonly kind = "memory";
  readonly maxMessage: number;
  readonly closed: Promise<string>;
  /** The end that receives, and what both have in common; set by `memoryChannelPair`. */
  other!: MemoryChannel;
  binding!: ChannelBinding;

  private over = false;
  private resolveClosed!: (reason: string) => void;
  private handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined;
  /** What the other end sent and this one has not delivered yet; a string is the reason of a close. */
  private readonly inbox: (Uint8Array<ArrayBuffer> | string)[] = [];
  private delivering = false;
  /** Bytes that left but were not delivered. */
  private queued = 0;
  private readonly waiting: { bytes: number; resolve: () => void }[] = [];
  /** What is between the ends, in order. */
  private readonly road: (Uint8Array<ArrayBuffer> | string)[] = [];
  /** When the modelled wire is free again, and when the last message is there. */
  private free = 0;
  private last = 0;
  /** What would have arrived while the cable is cut. */
  private stuck: [what: Uint8Array<ArrayBuffer> | string, size: number][] | undefined;

  constructor(private readonly options: MemoryOptions) {
    this.maxMessage = options.maxMessage ?? 1 << 20;
    this.closed = new Promise((resolve) => this.resolveClosed = resolve);
  }

  get onmessage(): ((message: Uint8Array<ArrayBuffer>) => void) | undefined {
    return this.handler;
  }

  set onmessage(handler: ((message: Uint8Array<ArrayBuffer>) => void) | undefined) {
    this.handler = handler;
    this.deliver();
  }

  send(message: Uint8Array<ArrayBuffer>): void {
    if (this.over) throw new LinkError("Cannot send on a closed channel");
    if (message.length > this.maxMessage) {
      throw new LinkError(`Cannot send a message of ${message.length} bytes: the most is ${this.maxMessage}`);
    }
    this.queued += message.length;
    this.travel(message, message.length);
  }

  buffered(): number {
    return this.queued;
  }

  drained(bytes: number): Promise<void> {
    if (this.over || this.queued <= bytes) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push({ bytes, resolve }));
  }

  close(reason = "closed"): void {
    if (this.over) return;
    this.travel(reason, 0);
    this.finish(reason);
  }

  /** As a killed process ends: nothing that is under way arrives any more, both ends see it at once. */
  sever(reason = "the peer is gone"): void {
    for (const end of [this, this.other]) {
      end.inbox.length = 0;
      end.finish(reason);
    }
  }

  /** As a cable that is pulled out: from now on nothing that this end sends arrives, and nobody is told. */
  cut(): void {
    this.stuck ??= [];
  }

  /** The cable is back: what was under way arrives after all. */
  mend(): void {
    const { stuck } = this;
    this.stuck = undefined;
    for (const [what, size] of stuck ?? []) this.arrive(what, size);
  }

  private finish(reason: string): void {
    if (this.over) return;
    this.over = true;
    this.queued = 0;
    for (const { resolve } of this.waiting.splice(0)) resolve();
    this.resolveClosed(reason);
  }

  private travel(what: Uint8Array<ArrayBuffer> | string, size: number): void {
    const { clock, latencyMs = 0, bytesPerSecond = Infinity, loss = 0, chance } = this.options;
    if (clock === undefined) return this.arrive(what, size);
    this.free = Math.max(this.free, clock.now()) + size / bytesPerSecond * 1_000;
    const left = Math.max(0, this.free - clock.now()); // time passes between two looks at a real clock
    // Two events: the bytes have left (the window opens), and they are there. Whatever order a clock fires timers of
    // nearly one time in, messages arrive in the order in which they were sent.
    if (size > 0) clock.timer(left, () => this.left(size));
    this.road.push(what);
    let delay = left + latencyMs;
    while (loss > 0 && chance!() < loss) delay += AGAIN_MS + 2 * latencyMs;
    this.last = Math.max(this.last, clock.now() + delay);
    clock.timer(Math.max(0, this.last - clock.now()), () => this.arrive(this.road.shift()!, 0));
  }

  private arrive(what: Uint8Array<ArrayBuffer> | string, size: number): void {
    if (this.other.over) return;
    if (this.stuck !== undefined) return void this.stuck.push([what, size]);
    this.other.inbox.push(what);
    if (size > 0) queueMicrotask(() => this.left(size));
    this.other.deliver();
  }

  private left(size: number): void {
    if (this.over) return;
    this.queued -= size;
    for (let i = 0; i < this.waiting.length;) {
      if (this.waiting[i].bytes >= this.queued) this.waiting.splice(i, 1)[0].resolve();
      else i++;
    }
  }

  /** Empties the inbox in a microtask, one run for all that is there. */
  private deliver(): void {
    if (this.delivering || this.inbox.length === 0) return;
    if (this.handler === undefined && typeof this.inbox[0] !== "string") {
      if (this.inbox.length > limits.earlyMessages) this.close("nobody listens");
      return;
    }
    this.delivering = true;
    queueMicrotask(() => {
      let done = 0;
      for (; done < this.inbox.length; done++) {
        const what = this.inbox[done];
        if (typeof what === "string") this.finish(what);
        else if (this.over) continue;
        else if (this.handler === undefined) break; // its owner takes a message at a time
        else this.handler(what);
      }
      this.inbox.splice(0, done);
      this.delivering = false;
      if (this.handler !== undefined) this.deliver();
    });
  }
}

/** The roads between workers that live in one process: both ends take their transport from the same hub. */
export class MemoryHub {
  /** Ends that were offered and not yet taken, by name. */
  private readonly offered = new Map<string, MemoryChannel>();
  /** The initiators' ends of all channels so far. */
  readonly channels: MemoryChannel[] = [];
  private next = 0;

  constructor(
    private readonly clock: Clock,
    private readonly options: Omit<MemoryOptions, "clock"> & Pick<Transport, "paths"> = {},
  ) {}

  /** The initiator makes a pair and tells the other end, over its signal, the name under which its end lies here. */
  transport(): Transport {
    return {
      kind: "memory",
      paths: this.options.paths,
      open: (signal, initiator) => initiator ? this.offer(signal) : this.answer(signal),
    };
  }

  private offer(signal: Signal): Promise<Channel> {
    const slow = this.options.latencyMs !== undefined || this.options.bytesPerSecond !== undefined;
    const [mine, theirs] = memoryChannelPair(slow ? { ...this.options, clock: this.clock } : this.options);
    const name = `memory-${this.next++}`;
    this.offered.set(name, theirs);
    this.channels.push(mine);
    signal.send({ memory: name });
    return Promise.resolve(mine);
  }

  private answer(signal: Signal): Promise<Channel> {
    return new Promise((resolve, reject) => {
      const timer = this.clock.timer(limits.connectMs, () => {
        reject(new LinkError(`The peer offered no channel in memory within ${limits.connectMs / 1_000} s`));
      });
      signal.onbody = (body) => {
        const name = (body as { memory?: unknown } | null)?.memory;
        const channel = typeof name === "string" ? this.offered.get(name) : undefined;
        timer.cancel();
        if (channel === undefined) {
          return reject(new LinkError("The peer offers a channel that is not in memory here"));
        }
        this.offered.delete(name as string);
        resolve(channel);
      };
    });
  }
}
