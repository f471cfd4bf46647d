/**
 * A worker's part in one generation of a plan: load and link, then rounds until it is over. Whatever waits inside ends
 * with the generation, so that the next one finds the device idle.
 *
 * @module
 */
import type { SendBudget } from "../mesh/link/budget.ts";
import type { Credentials } from "../mesh/link/handshake.ts";
import type { FrameHandler } from "../mesh/link/link.ts";
import type { FromCoordinator, FromWorker, Part } from "../mesh/control/messages.ts";
import type { Slice } from "../mesh/plan.ts";
import type { Clock, Transport } from "../mesh/runtime.ts";
import type { Zstd } from "../mesh/tensors/tensor_codec.ts";
import type { Compute, Exchanger } from "./compute.ts";
import { GenerationOverError, PlanViolationError } from "./errors.ts";
import type { WorkerEvent } from "./events.ts";
import { ExpertClient, ExpertServer } from "./experts.ts";
import { Coding } from "./coding.ts";
import { Inbox } from "./inbox.ts";
import { loadTensors, type Puller } from "./loading.ts";
import { Peers } from "./peers.ts";
import { Meter } from "./report.ts";
import { type Bundle, bundlesOf } from "./replica_bundles.ts";
import { Residuals } from "./residuals.ts";
import { Roads } from "./roads.ts";
import type { Round } from "./round_data.ts";
import type { Decision } from "./round_parts.ts";
import { RoundExecutor } from "./rounds.ts";
import { type Sizes, sizesOf } from "./sizes.ts";

/** Rounds announced and not yet begun: one ahead is the rule, some more do no harm. */
const WAITING_ROUNDS = 16;

type SignalBody = Extract<FromWorker, { type: "signal" }>["body"];

/** What a generation works with. */
export interface GenerationOptions {
  readonly slice: Slice;
  readonly moments: boolean;
  /** What outer steps left comes too. */
  readonly outer: boolean;
  readonly compute: Compute;
  readonly transport: Transport;
  readonly clock: Clock;
  /** What links show to peers. */
  readonly credentials: Credentials;
  readonly pull: Puller;
  readonly tell: (message: FromWorker) => void;
  readonly event: (event: WorkerEvent) => void;
  /** What all links may send together; absent: as much as goes. */
  readonly budget?: SendBudget;
  /** Compression, where the platform has it. */
  readonly zstd?: Zstd;
  /** Resolves once the device is free of the generation before. */
  readonly after: Promise<void>;
  /** Called once with what went wrong here, after which the generation is over. */
  readonly failed: (error: Error) => void;
}

/** What was dropped because it came too late, twice or from another generation. */
export interface Dropped {
  readonly generation: number;
  readonly stale: number;
  readonly duplicates: number;
}

/** One generation from its slice to its end. */
export class Generation {
  readonly number: number;
  /** Answers the exchanges of the passes of this generation. */
  readonly exchange: Exchanger;
  /** Resolves when nothing of this generation uses the device any more. */
  readonly ended: Promise<void>;
  /** Resolves when its links are closed, after `end`. */
  readonly closed: Promise<void>;

  readonly #options: GenerationOptions;
  readonly #sizes: Sizes;
  /** What is exchanged with other pipelines. */
  readonly #bundles: readonly Bundle[];
  readonly #residuals: Residuals;
  readonly #roads: Roads;
  readonly #inbox: Inbox;
  /** Frames that come beside the rounds: weights on their way back, and all of outer steps. */
  readonly #aside: Inbox;
  readonly #client: ExpertClient;
  readonly #server: ExpertServer;
  readonly #meter: Meter;
  #executor: RoundExecutor | undefined;
  readonly #peers: Peers;
  readonly #rounds: Round[] = [];
  #lastRound = -1;
  #nextRound: (() => void) | undefined;
  readonly #started = Promise.withResolvers<readonly (readonly number[])[] | undefined>();
  #vote:
    | { readonly round: number; resolve(decision: Decision): void; reject(error: Error): void }
    | undefined;
  /** Resolves when the decision that came last is in the weights; pulls wait for it. */
  #settled: PromiseWithResolvers<void> | undefined;
  #over: GenerationOverError | undefined;
  readonly #closed = Promise.withResolvers<void>();

  /** Throws for a slice whose model or sizes make no sense; nothing has begun then. */
  constructor(options: GenerationOptions) {
    const { slice, clock, compute } = options;
    this.#options = options;
    this.number = slice.generation;
    this.#sizes = sizesOf(slice);
    const fault = (error: Error) => this.#fail(error);
    const coding = new Coding(slice, options.zstd);
    this.#roads = new Roads(this.number, coding, fault);
    this.#meter = new Meter(clock, () => this.#roads.links());
    this.#bundles = bundlesOf(slice, this.#sizes.config);
    this.#residuals = new Residuals(this.#bundles);
    this.#inbox = new Inbox(slice, this.#sizes, this.#bundles);
    this.#aside = new Inbox(slice, this.#sizes, this.#bundles);
    this.#client = new ExpertClient(slice, this.#roads, this.#meter);
    this.#server = new ExpertServer(slice, this.#sizes, this.#roads, compute, fault);
    this.exchange = (exchange) => this.#client.exchange(exchange);
    this.#started.promise.catch(() => {});
    this.closed = this.#closed.promise;
    const { transport, credentials, budget, tell } = options, { generation } = slice;
    this.#peers = new Peers({
      slice,
      sizes: this.#sizes,
      bundles: this.#bundles,
      transport,
      clock,
      credentials,
      budget,
      coding,
      roads: this.#roads,
      signal: (peer, body) => tell({ type: "signal", generation, peer, body: body as SignalBody }),
      deliver: (...frame) => this.#deliver(...frame),
      fault,
    });
    this.ended = this.#life();
  }

  get dropped(): Dropped {
    const stale = this.#inbox.stale + this.#aside.stale + this.#client.stale + this.#server.stale;
    let generation = this.#peers.foreign;
    for (const link of this.#roads.links()) generation += link.counters.dropped;
    return { generation, stale, duplicates: this.#inbox.duplicates + this.#aside.duplicates };
  }

  /** Words of a tensor that this worker holds, as they are after every decision that came before the question. */
  async read(tensor: string, part: Part, start: number, length: number): Promise<Float32Array<ArrayBuffer>> {
    await this.settled();
    return part === "e"
      ? this.#residuals.view(tensor).slice(start, start + length)
      : await this.#options.compute.get(tensor, part, start, length);
  }

  /** Takes in what the coordinator says to this generation. Throws {@linkcode PlanViolationError}. */
  receive(message: Extract<FromCoordinator, { type: "start" | "round" | "decision" | "signal" }>): void {
    switch (message.type) {
      case "signal":
        return this.#peers.receive(message.peer, message.body);
      case "start":
        return this.#started.resolve(message.load);
      case "round":
        if (message.round <= this.#lastRound) {
          throw new PlanViolationError(`Round ${message.round} came after round ${this.#lastRound}`);
        }
        if (this.#rounds.length === WAITING_ROUNDS) {
          throw new PlanViolationError(`More than ${WAITING_ROUNDS} rounds were announced ahead`);
        }
        this.#lastRound = message.round;
        this.#rounds.push(message);
        return this.#nextRound?.();
      case "decision":
        if (this.#vote?.round !== message.round) {
          throw new PlanViolationError(
            `A decision came for round ${message.round}, which did not wait for one`,
          );
        }
        this.#settled = Promise.withResolvers();
        this.#vote.resolve(message);
        this.#vote = undefined;
    }
  }

  /** Whether it ended: stopped, replaced or failed. */
  get over(): boolean {
    return this.#over !== undefined;
  }

  /** Resolves when every decision that came so far is in the weights: what is read then is what was committed. */
  settled(): Promise<void> {
    return this.#settled?.promise ?? Promise.resolve();
  }

  /** Ends the generation; `ended` tells when the device is idle. */
  end(reason: string): void {
    if (this.#over !== undefined) return;
    const over = this.#over = new GenerationOverError(`Generation ${this.number} is over: ${reason}`);
    this.#inbox.close(over);
    this.#aside.close(over);
    this.#client.close(over);
    this.#server.close(over);
    this.#peers.close(over).then(this.#closed.resolve);
    this.#started.reject(over);
    this.#vote?.reject(over);
    this.#settled?.resolve(); // nothing will change any more
    this.#nextRound?.();
  }

  #fail(error: Error): void {
    if (this.#over !== undefined) return;
    this.#options.failed(error);
    this.end(error.message);
  }

  async #life(): Promise<void> {
    try {
      await this.#begin();
    } catch (error) {
      if (!(error instanceof GenerationOverError)) this.#fail(error as Error);
    }
    await this.#executor?.idle();
    await this.#server.idle();
  }

  async #begin(): Promise<void> {
    const { slice, moments, outer, compute, pull, tell, event, after } = this.#options;
    await after;
    this.#check();
    const held = await compute.load(slice);
    this.#check();
    const saved = { moments, ...(outer ? { outer: this.#residuals } : {}) };
    const bytes = await loadTensors(compute, held, saved, async (...piece) => {
      this.#check();
      const bytes = await pull(...piece);
      this.#check();
      return bytes;
    }, (done, total) => event({ type: "loading", done, total }));
    this.#check();
    tell({ type: "loaded", generation: this.number, bytes });
    await this.#peers.open;
    tell({ type: "linked", generation: this.number });
    event({ type: "linked", peers: this.#peers.names });
    const load = await this.#started.promise;
    if (load !== undefined) await compute.balance(load);
    await compute.busy(); // what loading took is no round's
    this.#meter.take(0);
    const executor = this.#executor = new RoundExecutor({
      slice,
      sizes: this.#sizes,
      compute,
      held,
      roads: this.#roads,
      inbox: this.#inbox,
      aside: this.#aside,
      residuals: this.#residuals,
      client: this.#client,
      server: this.#server,
      meter: this.#meter,
      tell: (message) => {
        tell(message);
        const mode = message.type === "vote" ? "train" : "evaluate";
        event({ type: "round", round: message.round, mode, report: message.report, losses: message.losses });
      },
      decision: (round) =>
        new Promise((resolve, reject) => {
          if (this.#over !== undefined) return reject(this.#over);
          this.#vote = { round, resolve, reject };
        }),
      stepped: () => this.#settled?.resolve(),
    });
    while (true) {
      while (this.#rounds.length === 0 && this.#over === undefined) {
        await new Promise<void>((resolve) => this.#nextRound = resolve);
      }
      this.#check();
      await executor.run(this.#rounds.shift()!);
    }
  }

  #check(): void {
    if (this.#over !== undefined) throw this.#over;
  }

  #deliver(peer: string, ...[lane, header, payload, consumed]: Parameters<FrameHandler>): void {
    const { local } = this.#options.slice, { what } = header;
    const aside = what === "replica-weight" || (local !== undefined && what.startsWith("replica-"));
    if (lane === "pipeline") (aside ? this.#aside : this.#inbox).deliver(peer, header, payload, consumed);
    else if (lane === "request") this.#server.deliver(peer, header, payload, consumed);
    else this.#client.deliver(peer, header, payload, consumed);
  }
}
