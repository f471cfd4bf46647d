/**
 * The links of a generation: opened as the plan says, each frame judged before it is handed on, and an end that came too
 * early told.
 *
 * @module
 */
import type { SendBudget } from "../mesh/link/budget.ts";
import type { Credentials } from "../mesh/link/handshake.ts";
import type { FrameHandler, Lane, LaneSize, Link } from "../mesh/link/link.ts";
import { limits } from "../mesh/limits.ts";
import type { FrameHeader } from "../mesh/tensors/frame.ts";
import { type Slice, sliceLinks } from "../mesh/plan.ts";
import type { Clock, Timer, Transport } from "../mesh/runtime.ts";
import type { Coding } from "./coding.ts";
import { type GenerationOverError, PlanViolationError } from "./errors.ts";
import { Linking } from "./linking.ts";
import type { Bundle } from "./replica_bundles.ts";
import type { Roads } from "./roads.ts";
import { laneSizes, type Sizes } from "./sizes.ts";

/** What links are made of, and whom they serve. */
export interface PeersOptions {
  readonly slice: Slice;
  readonly sizes: Sizes;
  /** What is exchanged with other pipelines. */
  readonly bundles: readonly Bundle[];
  readonly transport: Transport;
  readonly clock: Clock;
  /** What links show to peers. */
  readonly credentials: Credentials;
  /** What all links may send together; absent: as much as goes. */
  readonly budget?: SendBudget;
  readonly coding: Coding;
  /** Gets each link as it opens. */
  readonly roads: Roads;
  /** Sends a body to a peer over the coordinator. */
  readonly signal: (peer: string, body: unknown) => void;
  /** Takes a frame of this generation that came on its lane, decoded; calls `consumed` once it needs it no more. */
  readonly deliver: (peer: string, ...frame: Parameters<FrameHandler>) => void;
  /** Hears of what a peer or its link did wrong. */
  readonly fault: (error: Error) => void;
}

/** All peers of a worker in one generation. */
export class Peers {
  /** Resolves once every link is open; rejects for a peer that cannot be reached. */
  readonly open: Promise<void>;
  /** Frames that were dropped because they belong to another generation. */
  foreign = 0;
  readonly #options: PeersOptions;
  readonly #linkings = new Map<string, Linking>();
  readonly #lanes = new Map<string, Record<Lane, LaneSize>>();
  /** Waiting for the coordinator's word after a peer left in good order. */
  readonly #grace: Timer[] = [];
  #over: GenerationOverError | undefined;

  /** Begins to connect at once: it needs no tensors, and peers must find us even while we still load. */
  constructor(options: PeersOptions) {
    this.#options = options;
    const { slice, sizes, bundles, transport, clock, credentials, budget } = options,
      { self, run, generation } = slice;
    for (const pair of sliceLinks(slice)) {
      if (!pair.includes(self)) continue;
      const peer = pair[0] === self ? pair[1] : pair[0];
      const lanes = laneSizes(slice, sizes, bundles.filter((bundle) => bundle.peer === peer));
      this.#lanes.set(peer, lanes);
      const signal = (body: unknown) => options.signal(peer, body);
      this.#linkings.set(
        peer,
        new Linking({ transport, clock, self, peer, run, generation, credentials, lanes, signal, budget }),
      );
    }
    const opened = [...this.#linkings.values()].map(async (linking) => this.#use(await linking.link));
    this.open = Promise.all(opened).then(() => {});
    this.open.catch(() => {}); // whoever awaits it later hears of a failure, also of an early one
  }

  /** To whom the plan has links. */
  get names(): string[] {
    return [...this.#linkings.keys()];
  }

  /** Takes in a body from a peer. Throws {@linkcode PlanViolationError} for one to whom there is no link. */
  receive(peer: string, body: unknown): void {
    const linking = this.#linkings.get(peer);
    if (linking === undefined) {
      throw new PlanViolationError(`A signal came from ${peer}, to whom the plan has no link`);
    }
    linking.receive(body);
  }

  /** Gives up what is not open and closes what is; resolves when all are closed. */
  close(over: GenerationOverError): Promise<void> {
    this.#over = over;
    for (const linking of this.#linkings.values()) linking.close(over);
    for (const timer of this.#grace) timer.cancel();
    return this.#options.roads.close(this.#options.clock, over);
  }

  #use(link: Link): void {
    if (this.#over !== undefined) return link.abort(this.#over.message);
    const { roads, clock, fault } = this.#options;
    roads.add(link);
    link.onframe = (...frame) => {
      try {
        this.#frame(link.peer, ...frame);
      } catch (error) {
        const [, , , consumed] = frame;
        consumed();
        fault(error as Error);
      }
    };
    link.closed.then(({ orderly, reason }) => {
      if (this.#over !== undefined) return;
      const error = new PlanViolationError(`The link to ${link.peer} closed: ${reason}`);
      if (!orderly) return fault(error);
      // The peer was told that the generation is over; our own word of it is on its way.
      this.#grace.push(clock.timer(limits.suspectedMs, () => fault(error)));
    });
  }

  #frame(peer: string, ...[lane, header, payload, consumed]: Parameters<FrameHandler>): void {
    const { slice, coding, deliver } = this.#options;
    if (header.generation !== slice.generation || this.#over !== undefined) {
      this.foreign++;
      return consumed();
    }
    if (LANE_OF[header.what] !== lane) {
      throw new PlanViolationError(`${peer} sent ${header.what} on the lane ${lane}`);
    }
    deliver(peer, lane, header, coding.decode(peer, header, payload, this.#largest(peer, lane)), consumed);
  }

  /** The plan's largest payload on a lane of a link. */
  #largest(peer: string, lane: Lane): number {
    const size = this.#lanes.get(peer)![lane];
    return typeof size === "number" ? size : size.frameBytes;
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
