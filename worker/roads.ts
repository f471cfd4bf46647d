/**
 * The open links of a generation, as the parts of a worker use them.
 *
 * @module
 */
import type { FrameHeader } from "../mesh/tensors/frame.ts";
import { limits } from "../mesh/limits.ts";
import type { Lane, Link } from "../mesh/link/link.ts";
import type { Clock } from "../mesh/runtime.ts";
import type { Coding } from "./coding.ts";
import { type GenerationOverError, PlanViolationError } from "./errors.ts";

/** What else a frame's header says; the generation is added. */
export type Heading = Omit<FrameHeader, "generation">;

/** Links by peer, sending of one generation. */
export class Roads {
  readonly #links = new Map<string, Link>();
  #over: Error | undefined;

  /** `fault` hears of a send that failed, once for each. */
  constructor(
    readonly generation: number,
    private readonly coding: Coding,
    private readonly fault: (error: Error) => void,
  ) {}

  add(link: Link): void {
    this.#links.set(link.peer, link);
  }

  links(): Iterable<Link> {
    return this.#links.values();
  }

  /**
   * Starts to send and does not wait. The promise resolves once the frame is handed over (or the generation is over) and
   * never rejects: failures go to `fault`. The parts must not change before. `residual`: what rounding left out before, where
   * the sender keeps it.
   */
  async send(
    peer: string,
    lane: Lane,
    heading: Heading,
    parts: readonly Uint8Array[],
    residual?: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    if (this.#over !== undefined) return;
    const link = this.#links.get(peer);
    if (link === undefined) {
      return this.fault(
        new PlanViolationError(`The plan sends ${heading.what} to ${peer}, to whom it has no link`),
      );
    }
    try {
      const coded = this.coding.encode(peer, heading, parts, residual);
      await link.send(lane, { ...coded.heading, generation: this.generation }, coded.parts);
    } catch (error) {
      if (this.#over === undefined) this.fault(error as Error);
    }
  }

  /**
   * No more sending; links close orderly where the other end answers in time, and at once where it does not. Resolves
   * when all are closed.
   */
  async close(clock: Clock, over: GenerationOverError): Promise<void> {
    this.#over = over;
    await Promise.all([...this.#links.values()].map(async (link) => {
      const timer = clock.timer(limits.suspectedMs, () => link.abort(over.message));
      await link.close().catch(() => {});
      timer.cancel();
    }));
  }
}
