/**
 * Opening the links of a generation. What two ends tell each other first goes over the coordinator, wrapped with the
 * number of the attempt, so that a connection that gets stuck can be given up for a new one without confusion.
 *
 * @module
 */
import { z } from "zod";
import { LinkError } from "../mesh/errors.ts";
import { limits } from "../mesh/limits.ts";
import { type Lane, type Link, openLink } from "../mesh/link.ts";
import type { Clock, Signal, Transport } from "../mesh/runtime.ts";
import { GenerationOverError, PlanViolationError } from "./errors.ts";

/** Connections tried before a peer counts as unreachable: at 3 % loss nine of ten handshakes pass the second time. */
const ATTEMPTS = 4;
/** Bodies of one attempt kept until the transport listens: candidates, a description, and some to spare. */
const KEPT_BODIES = 4 * limits.candidates;

const Envelope = z.strictObject({
  attempt: z.int().min(1).max(ATTEMPTS),
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
export interface LinkingOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly self: string;
  readonly peer: string;
  readonly run: string;
  readonly generation: number;
  readonly lanes: Readonly<Record<Lane, number>>;
  /** Sends a body to the peer over the coordinator. */
  readonly signal: (body: unknown) => void;
}

/** One pair's road to a link. The worker with the smaller id begins each attempt, the other follows. */
export class Linking {
  /** Resolves with the open link; rejects with `LinkError` once the peer counts as unreachable. */
  readonly link: Promise<Link>;
  #attempt = 0;
  #signal: AttemptSignal | undefined;
  #over: Error | undefined;
  #next: { promise: Promise<number>; resolve(attempt: number): void; reject(error: Error): void };

  constructor(private readonly options: LinkingOptions) {
    this.#next = Promise.withResolvers();
    this.#next.promise.catch(() => {});
    this.link = options.self < options.peer ? this.#initiate() : this.#follow();
    this.link.catch(() => {}); // also where nobody waits yet
  }

  /** Takes in a body from the peer. Throws {@linkcode PlanViolationError} for one without an attempt's number. */
  receive(raw: unknown): void {
    const parsed = Envelope.safeParse(raw);
    if (!parsed.success) {
      throw new PlanViolationError(`${this.options.peer} sent a signal that cannot be read`);
    }
    const { attempt, body } = parsed.data;
    if (attempt > this.#attempt && this.options.self > this.options.peer) {
      this.#begin(attempt);
      this.#next.resolve(attempt);
    }
    if (attempt === this.#attempt && body !== undefined) this.#signal?.receive(body);
  }

  /** Gives up. */
  close(over: GenerationOverError): void {
    this.#over = over;
    this.#next.reject(over);
    // A link that opens after all has nobody to serve.
    this.link.then((link) => link.abort(over.message), () => {});
  }

  #begin(attempt: number): void {
    this.#attempt = attempt;
    this.#signal = new AttemptSignal((body) => this.options.signal({ attempt, body }));
  }

  async #initiate(): Promise<Link> {
    let last: unknown;
    for (let attempt = 1; attempt <= ATTEMPTS && this.#over === undefined; attempt++) {
      this.#begin(attempt);
      this.options.signal({ attempt });
      try {
        return await this.#open(true);
      } catch (error) {
        last = error;
      }
    }
    throw this.#over ?? this.#unreachable(last);
  }

  async #follow(): Promise<Link> {
    // The first attempt may take its time (the peer gets its part of the plan a little later); the others follow soon.
    for (let attempt = await this.#next.promise;;) {
      try {
        this.#next = Promise.withResolvers();
        this.#next.promise.catch(() => {});
        return await this.#open(false);
      } catch (error) {
        if (this.#over !== undefined) throw this.#over;
        if (attempt === ATTEMPTS) throw this.#unreachable(error);
        const { reject, promise } = this.#next;
        const timer = this.options.clock.timer(3 * limits.connectMs, () => reject(this.#unreachable(error)));
        attempt = await promise.finally(() => timer.cancel());
      }
    }
  }

  async #open(initiator: boolean): Promise<Link> {
    const { transport, clock, self, peer, run, generation, lanes } = this.options;
    const channel = await transport.open(this.#signal!, initiator);
    return await openLink(channel, { clock, self, peer, run, generation, lanes });
  }

  #unreachable(error: unknown): LinkError {
    const reason = error instanceof Error ? error.message : String(error);
    return new LinkError(
      `Cannot connect to worker ${this.options.peer} over ${this.options.transport.kind} ` +
        `(tried ${this.#attempt} times): ${reason}`,
    );
  }
}
