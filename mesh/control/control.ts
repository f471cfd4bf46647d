/**
 * A control connection: typed messages over a channel, checked on arrival, with signs of life and the pulling of
 * tensor pieces. `ping`, `pong`, `pull` and `chunk` of messages.ts are handled here; the rest goes to the owner.
 *
 * @module
 */
import type { z } from "zod";
import { decodeMessage, encodeMessage } from "./codec.ts";
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import { Liveness } from "./liveness.ts";
import type { Part } from "./messages.ts";
import type { Channel, Clock, Timer } from "../runtime.ts";

/** Any message: what tells them apart is `type`. */
interface Typed {
  readonly type: string;
}

/** With this reason a coordinator that ends lets its workers go; with any other one they have lost it. */
export const ENDED_IN_ORDER = "the coordinator ended";

/** The messages that reach the owner. */
export type Heard<In extends Typed> = Exclude<In, { type: "ping" | "pong" | "pull" | "chunk" }>;

/** `length` f32 words of one part of a tensor, from word `start` on. */
export interface PullRequest {
  readonly tensor: string;
  readonly part: Part;
  readonly start: number;
  readonly length: number;
}

/** What a control connection counted. */
export interface ControlCounters {
  messagesSent: number;
  messagesReceived: number;
  bytesSent: number;
  bytesReceived: number;
  /** Messages that could not be read; the first one closes the connection. */
  invalid: number;
  /** Chunks that nobody waited for any more. */
  late: number;
  /** Of the last ping, ms; NaN before the first. */
  roundTrip: number;
}

/** One end of a control connection: messages both ways, and pulls of words of tensors. */
export interface Control<In extends Typed, Out extends Typed> {
  readonly counters: Readonly<ControlCounters>;
  /** Resolves with the reason once the connection is gone. */
  readonly closed: Promise<string>;
  /** Largest message that is taken, in bytes. Small until the other end has shown its secret. */
  maxBytes: number;
  /** Messages that arrive before it is set are kept and delivered on setting. */
  onmessage: ((message: Heard<In>) => void) | undefined;
  /** Answers the other end's pulls with exactly `4 * length` bytes. A failure closes the connection with its message. */
  onpull: ((request: PullRequest) => Promise<Uint8Array<ArrayBuffer>>) | undefined;
  /** True after `limits.suspectedMs` of silence, false again when the other end is heard. */
  onsuspected: ((suspected: boolean) => void) | undefined;
  /** Queues a message. False when the connection is gone; its owner learns why from `closed`. */
  send(message: Out): boolean;
  /**
   * Asks the other end for words of a tensor; little-endian f32 bytes. Up to `limits.pulls` are under way at once, more
   * wait their turn. Rejects with `LinkError` when the connection goes or no piece comes for `limits.pullMs`.
   */
  pull(request: PullRequest): Promise<Uint8Array<ArrayBuffer>>;
  /** Resolves when at most `bytes` are queued, or the connection is gone. */
  drained(bytes: number): Promise<void>;
  close(reason?: string): void;
}

/** Opens the control connection of one end; `schema` is what the other end may say. */
export function control<S extends z.ZodType<Typed>, Out extends Typed>(
  channel: Channel,
  schema: S,
  clock: Clock,
): Control<z.output<S>, Out> {
  return new ChannelControl<z.output<S>, Out>(channel, schema as unknown as z.ZodType<z.output<S>>, clock);
}

interface Pulling {
  readonly request: PullRequest;
  readonly resolve: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly reject: (error: Error) => void;
}

class ChannelControl<In extends Typed, Out extends Typed> implements Control<In, Out> {
  readonly counters: ControlCounters = {
    messagesSent: 0,
    messagesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
    invalid: 0,
    late: 0,
    roundTrip: NaN,
  };
  readonly closed: Promise<string>;
  onpull: ((request: PullRequest) => Promise<Uint8Array<ArrayBuffer>>) | undefined;
  onsuspected: ((suspected: boolean) => void) | undefined;

  private handler: ((message: Heard<In>) => void) | undefined;
  private early: Heard<In>[] = [];
  private accepted: number = limits.messageBytes;
  private over = false;
  private reason = "";
  private readonly liveness: Liveness;
  private pingId = 0;
  private pingAt = 0;
  private pullId = 0;
  private readonly pulling = new Map<number, Pulling>();
  private readonly waiting: Pulling[] = [];
  private pullTimer: Timer | undefined;
  /** Pulls of the other end that are being answered. */
  private answering = 0;

  constructor(
    private readonly channel: Channel,
    private readonly schema: z.ZodType<In>,
    private readonly clock: Clock,
  ) {
    this.liveness = new Liveness(clock, {
      ping: () => {
        this.pingId = (this.pingId + 1) >>> 0;
        this.pingAt = clock.now();
        this.transmit({ type: "ping", id: this.pingId } as Typed);
      },
      suspected: (suspected) => this.onsuspected?.(suspected),
      dead: (ms) => this.close(`the other end has been silent for ${(ms / 1_000).toFixed(1)} s`),
    });
    this.closed = channel.closed.then((reason) => {
      this.end(reason);
      return this.reason;
    });
    channel.onactivity = () => this.liveness.heard();
    channel.onmessage = (bytes) => this.receive(bytes);
    this.liveness.start();
  }

  get maxBytes(): number {
    return this.accepted;
  }

  set maxBytes(bytes: number) {
    this.accepted = bytes;
    // A channel that puts large messages together need not take them in only to have them refused here.
    if (this.channel.acceptBytes !== undefined) this.channel.acceptBytes = bytes;
  }

  get onmessage(): ((message: Heard<In>) => void) | undefined {
    return this.handler;
  }

  set onmessage(handler: ((message: Heard<In>) => void) | undefined) {
    this.handler = handler;
    while (this.handler !== undefined && this.early.length > 0) this.handler(this.early.shift()!);
  }

  send(message: Out): boolean {
    return this.transmit(message);
  }

  pull(request: PullRequest): Promise<Uint8Array<ArrayBuffer>> {
    const pulled = new Promise<Uint8Array<ArrayBuffer>>((resolve, reject) => {
      this.waiting.push({ request, resolve, reject });
    });
    if (this.over) this.failPulls();
    else this.nextPulls();
    return pulled;
  }

  drained(bytes: number): Promise<void> {
    return this.channel.drained(bytes);
  }

  close(reason = "closed"): void {
    if (this.over) return;
    this.end(reason);
    this.channel.close(reason);
  }

  private end(reason: string): void {
    if (this.over) return;
    this.over = true;
    this.reason = reason;
    this.liveness.stop();
    this.failPulls();
  }

  private transmit(message: Typed): boolean {
    if (this.over) return false;
    const bytes = encodeMessage(message);
    try {
      this.channel.send(bytes);
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
      return false;
    }
    this.counters.messagesSent++;
    this.counters.bytesSent += bytes.length;
    return true;
  }

  private receive(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.over) return;
    this.liveness.heard();
    this.counters.messagesReceived++;
    this.counters.bytesReceived += bytes.length;
    let message: In;
    try {
      message = decodeMessage(this.schema, bytes, this.accepted);
    } catch (error) {
      this.counters.invalid++;
      return this.close(error instanceof Error ? error.message : String(error));
    }
    switch (message.type) {
      case "ping":
        this.transmit({ type: "pong", id: (message as unknown as { id: number }).id } as Typed);
        return;
      case "pong":
        if ((message as unknown as { id: number }).id === this.pingId) {
          this.counters.roundTrip = this.clock.now() - this.pingAt;
        }
        return;
      case "pull":
        return void this.answer(message as unknown as PullRequest & { id: number });
      case "chunk":
        return this.chunk(message as unknown as { id: number; bytes: Uint8Array<ArrayBuffer> });
    }
    const heard = message as Heard<In>;
    if (this.handler !== undefined) return this.handler(heard);
    this.early.push(heard);
    if (this.early.length > limits.earlyMessages) this.close("nobody listens");
  }

  private async answer({ id, tensor, part, start, length }: PullRequest & { id: number }): Promise<void> {
    if (this.onpull === undefined) return this.close(`no tensor "${tensor}" can be pulled here`);
    // Twice: an answer may be on the road while its asker already counts it as done and asks for the next.
    if (++this.answering > 2 * limits.pulls) return this.close("the other end pulls too much at once");
    try {
      const bytes = await this.onpull({ tensor, part, start, length });
      if (bytes.length !== 4 * length) throw new LinkError(`${bytes.length} bytes instead of ${4 * length}`);
      this.transmit({ type: "chunk", id, bytes } as Typed);
    } catch (error) {
      this.close(`cannot answer a pull of ${tensor}: ${error instanceof Error ? error.message : error}`);
    } finally {
      this.answering--;
    }
  }

  private chunk({ id, bytes }: { id: number; bytes: Uint8Array<ArrayBuffer> }): void {
    const pulling = this.pulling.get(id);
    if (pulling === undefined) {
      this.counters.late++;
      return;
    }
    const { tensor, length } = pulling.request;
    if (bytes.length !== 4 * length) {
      return this.close(`the other end sent ${bytes.length} bytes of ${tensor} instead of ${4 * length}`);
    }
    this.pulling.delete(id);
    this.restartPullTimer();
    pulling.resolve(bytes);
    this.nextPulls();
  }

  private nextPulls(): void {
    while (!this.over && this.pulling.size < limits.pulls && this.waiting.length > 0) {
      const next = this.waiting.shift()!;
      this.pullId = (this.pullId + 1) >>> 0;
      this.pulling.set(this.pullId, next);
      const { tensor, part, start, length } = next.request;
      if (this.pulling.size === 1) this.restartPullTimer();
      this.transmit({ type: "pull", id: this.pullId, tensor, part, start, length } as Typed);
    }
  }

  /** Every piece that comes is progress, whichever pull it answers: slow roads are no reason to give up. */
  private restartPullTimer(): void {
    this.pullTimer?.cancel();
    this.pullTimer = this.pulling.size === 0 ? undefined : this.clock.timer(limits.pullMs, () => {
      this.failPulls(`no piece of a tensor came for ${limits.pullMs / 1_000} s`);
    });
  }

  private failPulls(reason = this.reason): void {
    this.pullTimer?.cancel();
    this.pullTimer = undefined;
    const failed = [...this.pulling.values(), ...this.waiting.splice(0)];
    this.pulling.clear();
    for (const { request, reject } of failed) {
      reject(new LinkError(`Cannot pull ${request.tensor}: ${reason}`));
    }
  }
}
