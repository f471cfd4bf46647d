/**
 * A worker's part in one generation of a plan: load and link, then rounds until it is over. Whatever waits inside ends
 * with the generation, so that the next one finds the device idle.
 *
 * @module
 */
import type { SendBudget } from "../mesh/link/budget.ts";
import type { FrameHeader } from "../mesh/tensors/frame.ts";
import type { Credentials } from "../mesh/link/handshake.ts";
import { limits } from "../mesh/limits.ts";
import type { Lane, LaneSize, Link } from "../mesh/link/link.ts";
import type { FromCoordinator, FromWorker, Part } from "../mesh/control/messages.ts";
import { type Slice, sliceLinks } from "../mesh/plan.ts";
import type { Clock, Timer, Transport } from "../mesh/runtime.ts";
import type { Zstd } from "../mesh/tensors/tensor_codec.ts";
import type { Compute, Exchanger } from "./compute.ts";
import { GenerationOverError, PlanViolationError } from "./errors.ts";
import type { WorkerEvent } from "./events.ts";
import { ExpertClient, ExpertServer } from "./experts.ts";
import { Coding } from "./coding.ts";
import { Inbox } from "./inbox.ts";
import { Linking } from "./linking.ts";
import { loadTensors, type Puller } from "./loading.ts";
import { Meter } from "./report.ts";
import { type Bundle, bundlesOf } from "./replicas.ts";
import { Residuals } from "./residuals.ts";
import { Roads } from "./roads.ts";
import type { Round } from "./round_data.ts";
import { type Decision, RoundExecutor } from "./rounds.ts";
import { laneSizes, type Sizes, sizesOf } from "./sizes.ts";

/** Rounds announced and not yet begun: one ahead is the rule, some more do no harm. */
const WAITING_ROUNDS = 16;

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
  readonly #coding: Coding;
  readonly #roads: Roads;
  readonly #inbox: Inbox;
  /** Frames of outer steps, where pipelines train locally. */
  readonly #outer: Inbox;
  readonly #client: ExpertClient;
  readonly #server: ExpertServer;
  readonly #meter: Meter;
  #executor: RoundExecutor | undefined;
  readonly #linkings = new Map<string, Linking>();
  readonly #lanes = new Map<string, Record<Lane, LaneSize>>();
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
  #foreign = 0;
  readonly #closed = Promise.withResolvers<void>();
  /** Waiting for the coordinator's word after a peer left in good order. */
  readonly #grace: Timer[] = [];

  /** Throws for a slice whose model or sizes make no sense; nothing has begun then. */
  constructor(options: GenerationOptions) {
    const { slice, clock, compute } = options;
    this.#options = options;
    this.number = slice.generation;
    this.#sizes = sizesOf(slice);
    const fault = (error: Error) => this.#fail(error);
    this.#coding = new Coding(slice, options.zstd);
    this.#roads = new Roads(this.number, this.#coding, fault);
    this.#meter = new Meter(clock, () => this.#roads.links());
    this.#bundles = bundlesOf(slice, this.#sizes.config);
    this.#residuals = new Residuals(this.#bundles);
    this.#inbox = new Inbox(slice, this.#sizes, this.#bundles);
    this.#outer = new Inbox(slice, this.#sizes, this.#bundles);
    this.#client = new ExpertClient(slice, this.#roads, this.#meter);
    this.#server = new ExpertServer(slice, this.#sizes, this.#roads, compute, fault);
    this.exchange = (exchange) => this.#client.exchange(exchange);
    this.#started.promise.catch(() => {});
    this.closed = this.#closed.promise;
    this.#connect();
    this.ended = this.#life();
  }

  get dropped(): Dropped {
    const stale = this.#inbox.stale + this.#client.stale + this.#server.stale;
    let generation = this.#foreign;
    for (const link of this.#roads.links()) generation += link.counters.dropped;
    return { generation, stale, duplicates: this.#inbox.duplicates };
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
      case "signal": {
        const linking = this.#linkings.get(message.peer);
        if (linking === undefined) {
          throw new PlanViolationError(`A signal came from ${message.peer}, to whom the plan has no link`);
        }
        return linking.receive(message.body);
      }
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
    this.#outer.close(over);
    this.#client.close(over);
    this.#server.close(over);
    for (const linking of this.#linkings.values()) linking.close(over);
    this.#roads.close(this.#options.clock, over).then(this.#closed.resolve);
    for (const timer of this.#grace) timer.cancel();
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
    const open = Promise.all(
      [...this.#linkings.values()].map(async (linking) => this.#use(await linking.link)),
    );
    open.catch(() => {}); // whoever awaits it below hears of a failure, also of an early one
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
    await open;
    tell({ type: "linked", generation: this.number });
    event({ type: "linked", peers: [...this.#linkings.keys()] });
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
      outer: this.#outer,
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

  /** Begins to connect at once: it needs no tensors, and peers must find us even while we still load. */
  #connect(): void {
    const { slice, transport, clock, credentials, tell, budget } = this.#options,
      { self, run, generation } = slice;
    for (const pair of sliceLinks(slice)) {
      if (!pair.includes(self)) continue;
      const peer = pair[0] === self ? pair[1] : pair[0];
      const lanes = laneSizes(slice, this.#sizes, this.#bundles.filter((bundle) => bundle.peer === peer));
      this.#lanes.set(peer, lanes);
      const signal = (body: unknown) =>
        tell({
          type: "signal",
          generation,
          peer,
          body: body as Extract<FromWorker, { type: "signal" }>["body"],
        });
      this.#linkings.set(
        peer,
        new Linking({ transport, clock, self, peer, run, generation, credentials, lanes, signal, budget }),
      );
    }
  }

  /** The plan's largest payload on a lane of a link. */
  #largest(peer: string, lane: Lane): number {
    const size = this.#lanes.get(peer)![lane];
    return typeof size === "number" ? size : size.frameBytes;
  }

  #use(link: Link): void {
    if (this.#over !== undefined) return link.abort(this.#over.message);
    this.#roads.add(link);
    link.onframe = (lane, header, payload, consumed) => {
      try {
        this.#frame(link.peer, lane, header, payload, consumed);
      } catch (error) {
        consumed();
        this.#fail(error as Error);
      }
    };
    link.closed.then(({ orderly, reason }) => {
      if (this.#over !== undefined) return;
      const error = new PlanViolationError(`The link to ${link.peer} closed: ${reason}`);
      if (!orderly) return this.#fail(error);
      // The peer was told that the generation is over; our own word of it is on its way.
      this.#grace.push(this.#options.clock.timer(limits.suspectedMs, () => this.#fail(error)));
    });
  }

  #frame(
    peer: string,
    lane: Lane,
    header: FrameHeader,
    payload: Uint8Array<ArrayBuffer>,
    consumed: () => void,
  ): void {
    if (header.generation !== this.number || this.#over !== undefined) {
      this.#foreign++;
      return consumed();
    }
    if (LANE_OF[header.what] !== lane) {
      throw new PlanViolationError(`${peer} sent ${header.what} on the lane ${lane}`);
    }
    const plain = this.#coding.decode(peer, header, payload, this.#largest(peer, lane));
    const local = this.#options.slice.local !== undefined && header.what.startsWith("replica-");
    if (lane === "pipeline") (local ? this.#outer : this.#inbox).deliver(peer, header, plain, consumed);
    else if (lane === "request") this.#server.deliver(peer, header, plain, consumed);
    else this.#client.deliver(peer, header, plain, consumed);
  }
}

/** The lane on which each kind of frame travels. */
const LANE_OF: Readonly<Record<FrameHeader["what"], Lane>> = {
  "activation": "pipeline",
  "gradient": "pipeline",
  "tied-gradient": "pipeline",
  "tied-weight": "pipeline",
  "replica-gradient": "pipeline",
  "replica-weight": "pipeline",
  "replica-delta": "pipeline",
  "expert-input": "request",
  "expert-output-gradient": "request",
  "expert-end": "request",
  "expert-output": "reply",
  "expert-input-gradient": "reply",
};
