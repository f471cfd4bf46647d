/**
 * Experts on other workers, from both ends. The one who asks sends, for each host, a frame of the row counts of its
 * experts (u32) and the rows (f32), and gets a frame of as many rows back. The host answers in the order in which each
 * asker sent, also while its own pass waits for someone else's experts: otherwise two workers that host for each other
 * would wait forever.
 *
 * @module
 */
import type { FrameHeader, What } from "../mesh/tensors/frame.ts";
import { limits } from "../mesh/limits.ts";
import { hostedExperts, type Slice } from "../mesh/plan.ts";
import type { Compute, Exchange, ExpertRows } from "./compute.ts";
import { free } from "./buffers.ts";
import { type GenerationOverError, PlanViolationError } from "./errors.ts";
import type { Meter } from "./report.ts";
import type { Roads } from "./roads.ts";
import { mostRows, type Sizes } from "./sizes.ts";

const REQUEST = { forward: "expert-input", backward: "expert-output-gradient" } as const;
const REPLY = { forward: "expert-output", backward: "expert-input-gradient" } as const;

/** Which pass a frame belongs to. */
function passOf(what: What): "forward" | "backward" {
  return what === "expert-input" || what === "expert-output" ? "forward" : "backward";
}

interface Pending {
  readonly bytes: number;
  resolve(rows: ArrayBuffer): void;
  reject(error: Error): void;
}

/** The asking end: sends the rows of a pass to their hosts and gathers the answers. */
export class ExpertClient {
  readonly #pending = new Map<string, Pending>();
  readonly #hosts: ReadonlySet<string>;
  #round = -1;
  #evaluate = false;
  #over: Error | undefined;
  /** Answers dropped since the start: nobody waited for them (any more). */
  stale = 0;

  constructor(slice: Slice, private readonly roads: Roads, private readonly meter: Meter) {
    const own = slice.stages.filter((stage) => stage.worker === slice.self);
    this.#hosts = new Set(own.flatMap((stage) => stage.experts.flat()).filter((host) => host !== slice.self));
  }

  /** Exchanges belong to this round from now on. */
  enter(round: number, evaluate: boolean): void {
    this.#round = round;
    this.#evaluate = evaluate;
  }

  /** Sends the parts of an exchange and resolves with the rows that came back for each. */
  async exchange({ layer, microbatch, pass, parts }: Exchange): Promise<ArrayBuffer[]> {
    if (this.#over !== undefined) throw this.#over;
    const heading = { round: this.#round, evaluate: this.#evaluate, index: layer, microbatch, sequence: 0 };
    const replies = parts.map((part) => {
      const key = `${part.host} ${REPLY[pass]} ${this.#round} ${layer} ${microbatch}`;
      const reply = new Promise<ArrayBuffer>((resolve, reject) => {
        this.#pending.set(key, { bytes: part.rows.byteLength, resolve, reject });
      });
      const counts = new Uint8Array(part.counts.buffer, part.counts.byteOffset, part.counts.byteLength);
      const heads = { what: REQUEST[pass], ...heading };
      this.roads.send(part.host, "request", heads, [counts, new Uint8Array(part.rows)]).then(() =>
        free(part.rows)
      );
      return reply;
    });
    return await this.meter.waiting(Promise.all(replies));
  }

  /** Takes in an answer. Throws {@linkcode PlanViolationError} for one of the wrong size. */
  deliver(peer: string, header: FrameHeader, payload: Uint8Array<ArrayBuffer>, consumed: () => void): void {
    const key = `${peer} ${header.what} ${header.round} ${header.index} ${header.microbatch}`;
    const pending = this.#pending.get(key);
    if (pending === undefined) {
      this.stale++;
      return consumed();
    }
    if (payload.length !== pending.bytes) {
      throw new PlanViolationError(
        `${peer} answered with ${payload.length} bytes of ${header.what} for layer ${header.index}: ` +
          `${pending.bytes} were asked for`,
      );
    }
    this.#pending.delete(key);
    consumed(); // whoever asked waits for it and takes it at once
    pending.resolve(payload.buffer);
  }

  /** Tells every host that it has had all rows of a share of this round. */
  end(share: number): void {
    const heading = {
      round: this.#round,
      evaluate: this.#evaluate,
      index: 0,
      microbatch: share,
      sequence: 0,
    };
    for (const host of this.#hosts) this.roads.send(host, "request", { what: "expert-end", ...heading }, []);
  }

  close(error: GenerationOverError): void {
    this.#over = error;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}

interface Request {
  readonly header: FrameHeader;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly consumed: () => void;
}

/** What one asker has sent that is not answered yet. */
interface Source {
  readonly peer: string;
  readonly requests: Request[];
  busy: boolean;
  /** The last answer begun; resolves when it is done or failed. */
  work: Promise<void>;
  /** The last share whose end it told, counted through all rounds (see {@linkcode turn}). */
  ended: number;
}

/** One number for a share of a round; later ones are larger. */
function turn(round: number, share: number): number {
  return round * limits.replicas + share;
}

/** The hosting end. */
export class ExpertServer {
  readonly #sources = new Map<string, Source>();
  readonly #hosted: ReadonlyMap<number, readonly number[]>;
  readonly #done: { resolve(): void; reject(error: Error): void }[] = [];
  #round = -1;
  #share = 0;
  #evaluate = false;
  #over: Error | undefined;
  /** Requests dropped since the start: their round was over. */
  stale = 0;

  constructor(
    private readonly slice: Slice,
    private readonly sizes: Sizes,
    private readonly roads: Roads,
    private readonly compute: Compute,
    private readonly fault: (error: Error) => void,
  ) {
    this.#hosted = hostedExperts(slice.stages, slice.self);
    for (const stage of slice.stages) {
      if (stage.worker === slice.self || !stage.experts.some((hosts) => hosts.includes(slice.self))) continue;
      this.#sources.set(stage.worker, {
        peer: stage.worker,
        requests: [],
        busy: false,
        work: Promise.resolve(),
        ended: -1,
      });
    }
  }

  /** Requests of this round are answered from now on; those of later rounds wait until weights are as they should be. */
  enter(round: number, evaluate: boolean): void {
    this.#round = round;
    this.#share = 0;
    this.#evaluate = evaluate;
    for (const source of this.#sources.values()) this.#pump(source);
  }

  /** Requests of the round's next share are answered from now on: the gradients of the one before are folded. */
  next(): void {
    this.#share++;
    for (const source of this.#sources.values()) this.#pump(source);
  }

  /** Resolves once every asker has told the end of the current share and all that it asked before is done. */
  finished(): Promise<void> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      this.#done.push({ resolve, reject });
      this.#settle();
    });
  }

  /** Resolves once no request is being worked on. */
  async idle(): Promise<void> {
    await Promise.all([...this.#sources.values()].map((source) => source.work));
  }

  #settle(): void {
    const now = turn(this.#round, this.#share);
    for (const source of this.#sources.values()) if (source.busy || source.ended < now) return;
    for (const done of this.#done.splice(0)) done.resolve();
  }

  /** Takes in a request or the end of a round. Throws {@linkcode PlanViolationError}. */
  deliver(peer: string, header: FrameHeader, payload: Uint8Array<ArrayBuffer>, consumed: () => void): void {
    const source = this.#sources.get(peer);
    if (source === undefined) {
      throw new PlanViolationError(`${peer} sent rows for experts, but none of its layers has experts here`);
    }
    if (this.#over !== undefined) return consumed();
    source.requests.push({ header, payload, consumed });
    this.#pump(source);
  }

  #pump(source: Source): void {
    while (!source.busy && this.#over === undefined) {
      const request = source.requests[0];
      if (request === undefined || request.header.round > this.#round) return;
      // Rows of the next share wait until the gradients of this one are folded.
      if (source.ended >= turn(this.#round, this.#share)) return;
      source.requests.shift();
      if (request.header.round < this.#round) {
        this.stale++;
        request.consumed();
      } else if (request.header.what === "expert-end") {
        request.consumed();
        if (request.header.microbatch !== this.#share) {
          return this.fault(
            new PlanViolationError(
              `${source.peer} ended share ${request.header.microbatch} of round ${this.#round} in share ${this.#share}`,
            ),
          );
        }
        source.ended = turn(this.#round, this.#share);
        this.#settle();
      } else {
        source.busy = true;
        source.work = this.#answer(source, request).catch((error) => {
          if (this.#over === undefined) this.fault(error);
        }).finally(() => {
          source.busy = false;
          this.#pump(source);
        });
      }
    }
  }

  async #answer({ peer }: Source, { header, payload, consumed }: Request): Promise<void> {
    const part = this.#check(peer, header, payload);
    const pass = passOf(header.what), mode = this.#evaluate ? "evaluate" : "train";
    const { index: layer, microbatch, round, evaluate } = header;
    const rows = await this.compute.host({ layer, microbatch, pass, mode, part });
    consumed();
    const heading = { what: REPLY[pass], round, evaluate, index: layer, microbatch, sequence: 0 };
    this.roads.send(peer, "reply", heading, [new Uint8Array(rows)]).then(() => free(rows));
    // Nobody waits for these before the share ends; but the asker's next request does, so that they add up in order.
    if (pass === "backward") await this.compute.hostWeights(layer, microbatch);
  }

  /** The rows of a request, after comparing everything that the asker said with the plan. */
  #check(peer: string, header: FrameHeader, payload: Uint8Array<ArrayBuffer>): Omit<ExpertRows, "host"> {
    const { index: layer, microbatch, what } = header;
    const refuse = (why: string) => new PlanViolationError(`${peer} sent ${what} for layer ${layer}: ${why}`);
    const stage = this.slice.stages.find((stage) => stage.from <= layer && layer < stage.to);
    const experts = this.#hosted.get(layer);
    if (stage?.worker !== peer || experts === undefined) {
      throw refuse("that layer of its has no experts here");
    }
    if (microbatch >= this.slice.shape.microbatches) throw refuse(`there is no microbatch ${microbatch}`);
    if (header.evaluate !== this.#evaluate) throw refuse(`round ${header.round} is of the other mode`);
    if (what === "expert-output-gradient" && this.#evaluate) throw refuse("evaluation has no backward pass");
    const countBytes = experts.length * 4;
    if (payload.length < countBytes) throw refuse(`${payload.length} bytes hold no ${experts.length} counts`);
    const counts = new Uint32Array(payload.buffer.slice(0, countBytes));
    let total = 0;
    for (const count of counts) {
      if (count > this.sizes.tokens) {
        throw refuse(`${count} rows for one expert of ${this.sizes.tokens} tokens`);
      }
      total += count;
    }
    if (total > mostRows(this.sizes, experts.length)) {
      throw refuse(`${total} rows are more than its tokens can choose`);
    }
    if (payload.length !== countBytes + total * this.sizes.rowBytes) {
      throw refuse(
        `${payload.length} bytes, but its counts say ${countBytes + total * this.sizes.rowBytes}`,
      );
    }
    const rows = payload.buffer.slice(countBytes);
    free(payload.buffer);
    return { counts, rows };
  }

  close(error: GenerationOverError): void {
    this.#over = error;
    for (const done of this.#done.splice(0)) done.reject(error);
    for (const source of this.#sources.values()) {
      for (const request of source.requests.splice(0)) request.consumed();
    }
  }
}
