/**
 * Opening the links of a generation, and keeping them: more connections where one carries too little over a long road,
 * new ones for those that die or stand still. What two ends tell each other first goes over the coordinator, wrapped
 * with the number of the attempt, so that a connection that gets stuck can be given up for a new one without confusion.
 *
 * @module
 */
import { z } from "zod";
import { Bundle } from "../mesh/link/bundle.ts";
import { ChannelLink } from "../mesh/link/channel_link.ts";
import { LinkError } from "../mesh/errors.ts";
import { greet } from "../mesh/link/greeting.ts";
import { limits } from "../mesh/limits.ts";
import type { Link, LinkOptions } from "../mesh/link/link.ts";
import type { Signal, Timer, Transport } from "../mesh/runtime.ts";
import { GenerationOverError, PlanViolationError } from "./errors.ts";

/** Connections tried before a peer counts as unreachable: at 3 % loss nine of ten handshakes pass the second time. */
const ATTEMPTS = 4;
/** Bodies of one attempt kept until the transport listens: candidates, a description, and some to spare. */
const KEPT_BODIES = 4 * limits.candidates;
/** Connections of one generation between two workers: one lost every second for twelve days. */
const MOST_ATTEMPTS = 1 << 20;
/** Attempts under way at one end: those of the other end may seem to last a little longer here. */
const AT_ONCE = 2 * limits.paths;

const Envelope = z.strictObject({
  attempt: z.int().min(1).max(MOST_ATTEMPTS),
  /** Absent in the note with which the initiator begins an attempt. */
  body: z.optional(z.json()),
});

/** The bodies of one attempt. */
class AttemptSignal implements Signal {
  readonly #kept: unknown[] = [];
  #onbody: ((body: unknown) => void) | undefined;

  constructor(readonly send: (body: unknown) => void) {}

  get onbody(): ((body: unknown) => void) | undefined {
    return this.#onbody;
  }

  set onbody(handler: ((body: unknown) => void) | undefined) {
    this.#onbody = handler;
    while (this.#onbody !== undefined && this.#kept.length > 0) this.#onbody(this.#kept.shift());
  }

  receive(body: unknown): void {
    if (this.#onbody !== undefined) return this.#onbody(body);
    if (this.#kept.length < KEPT_BODIES) this.#kept.push(body);
  }
}

/** What linking needs of its generation. */
export interface LinkingOptions extends LinkOptions {
  readonly transport: Transport;
  /** Sends a body to the peer over the coordinator. */
  readonly signal: (body: unknown) => void;
}

/** One pair's road to a link. The worker with the smaller id begins each attempt, the other follows. */
export class Linking {
  /** Resolves with the open link; rejects with `LinkError` once the peer counts as unreachable. */
  readonly link: Promise<Link>;
  readonly #bundle: Bundle;
  readonly #link: ChannelLink;
  readonly #initiator: boolean;
  /** Attempts under way, by number. */
  readonly #opening = new Map<number, AttemptSignal>();
  #attempts = 0;
  /** Attempts that failed since one succeeded. */
  #failures = 0;
  #pause: Timer | undefined;
  #waiting: Timer | undefined;
  #over: Error | undefined;

  constructor(private readonly options: LinkingOptions) {
    const { clock, peer, transport } = options;
    this.#initiator = options.self < options.peer;
    this.#bundle = new Bundle({ clock, peer, short: () => this.#more(), paths: transport.paths });
    this.#link = new ChannelLink(this.#bundle, options);
    this.link = this.#link.opened.catch((error) => {
      throw this.#over ?? error;
    });
    this.link.catch(() => {}); // also where nobody waits yet
    this.#link.closed.then(() => this.#stop());
    this.#more();
  }

  /** Takes in a body from the peer. Throws {@linkcode PlanViolationError} for one without an attempt's number. */
  receive(raw: unknown): void {
    const parsed = Envelope.safeParse(raw);
    if (!parsed.success) {
      throw new PlanViolationError(`${this.options.peer} sent a signal that cannot be read`);
    }
    const { attempt, body } = parsed.data;
    if (!this.#initiator && attempt > this.#attempts && !this.#done) {
      if (this.#opening.size >= AT_ONCE) {
        throw new PlanViolationError(`${this.options.peer} opens more connections than a link may have`);
      }
      this.#attempts = attempt;
      this.#attempt(attempt);
    }
    if (body !== undefined) this.#opening.get(attempt)?.receive(body);
  }

  /** Gives up. */
  close(over: GenerationOverError): void {
    this.#over = over;
    // A link that is open has others who close it; one that opens after all has nobody to serve.
    this.#link.giveUp(over);
    this.link.then((link) => link.abort(over.message), () => {});
    this.#stop();
  }

  get #done(): boolean {
    return this.#over !== undefined || this.#bundle.ended;
  }

  /** Timers end; attempts under way find that nobody wants them. */
  #stop(): void {
    this.#pause?.cancel();
    this.#waiting?.cancel();
  }

  /** Begins as many attempts as the bundle lacks channels. */
  #more(): void {
    if (!this.#initiator || this.#pause !== undefined) return;
    while (!this.#done && this.#opening.size < this.#bundle.missing && this.#attempts < MOST_ATTEMPTS) {
      const attempt = ++this.#attempts;
      this.options.signal({ attempt });
      this.#attempt(attempt);
    }
  }

  async #attempt(attempt: number): Promise<void> {
    const { transport, signal, clock } = this.options;
    const road = new AttemptSignal((body) => signal({ attempt, body }));
    this.#opening.set(attempt, road);
    this.#waiting?.cancel();
    try {
      const channel = await transport.open(road, this.#initiator);
      if (this.#done) return channel.close("nobody waits for it any more");
      await greet(channel, this.options);
      this.#failures = 0;
      this.#opening.delete(attempt);
      this.#bundle.add(channel);
    } catch (error) {
      this.#opening.delete(attempt);
      if (this.#done) return;
      this.#failures++;
      if (this.#failures >= ATTEMPTS) this.#link.giveUp(this.#unreachable(error));
      if (!this.#initiator) {
        // The others follow soon, or never.
        if (this.#bundle.counters.paths === 0) {
          this.#waiting = clock.timer(
            3 * limits.connectMs,
            () => this.#link.giveUp(this.#unreachable(error)),
          );
        }
        return;
      }
      this.#pause?.cancel();
      this.#pause = clock.timer(
        Math.min(limits.connectMs, limits.heartbeatMs * 2 ** (this.#failures - 1)),
        () => {
          this.#pause = undefined;
          this.#more();
        },
      );
    }
  }

  #unreachable(error: unknown): LinkError {
    const reason = error instanceof Error ? error.message : String(error);
    return new LinkError(
      `Cannot connect to worker ${this.options.peer} over ${this.options.transport.kind} ` +
        `(tried ${this.#attempts} times): ${reason}`,
    );
  }
}
