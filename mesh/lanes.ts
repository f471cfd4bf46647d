/**
 * The two ends of a link's lane: frames cut into pieces within the peer's credit, and put together again within ours.
 *
 * @module
 */
import { FrameError } from "./errors.ts";
import { decodeFrame, encodeFrame, FRAME_BYTES, type FrameHeader } from "./frame.ts";
import { limits } from "./limits.ts";
import type { LaneSize } from "./link.ts";

/** What holding a frame costs beside its payload: the objects around it. Frames without payload are not free. */
const FRAME_COST = 256;

/** Bytes of credit that a frame of `payloadBytes` takes. */
export function frameCost(payloadBytes: number): number {
  return payloadBytes + FRAME_COST;
}

/** The bounds of a lane that follow from its size in the plan. */
export class LaneBounds {
  /** Largest payload in bytes. */
  readonly frameBytes: number;
  /** Bytes of credit that the receiver gives back at once; less is gathered. */
  readonly grantAt: number;
  /** Bytes of credit that the receiver grants at first: the frames of the plan, and what may not be given back yet. */
  readonly window: number;

  constructor(size: LaneSize) {
    const { frameBytes, frames } = typeof size === "number"
      ? { frameBytes: size, frames: limits.grantedFrames }
      : size;
    if (!(Number.isInteger(frameBytes) && frameBytes >= 0 && frameBytes <= limits.frameBytes)) {
      throw new FrameError(
        `Cannot make a lane for frames of ${frameBytes} bytes: the most is ${limits.frameBytes}`,
      );
    }
    if (!(Number.isInteger(frames) && frames >= 1)) {
      throw new FrameError(`Cannot make a lane of ${frames} frames`);
    }
    this.frameBytes = frameBytes;
    this.grantAt = Math.min(frameCost(frameBytes), limits.lowWaterBytes);
    // Lanes of small frames get as much as the channel holds, so that they need not stop for every answer.
    this.window = Math.max(frames * frameCost(frameBytes), limits.highWaterBytes) + this.grantAt;
  }
}

/** A frame on its way out. */
interface Outgoing {
  /** The header and the payload's parts. */
  readonly parts: readonly Uint8Array[];
  readonly payloadBytes: number;
  readonly handedOver: () => void;
  readonly failed: (error: Error) => void;
  waited: boolean;
}

/** The sending end. */
export class Sender {
  /** Bytes that the peer will still take. */
  credit = 0;
  private readonly queue: Outgoing[] = [];
  private head = 0;
  private current: Outgoing | undefined;
  /** The next byte of the current frame: part, byte within it, bytes left of the frame. */
  private part = 0;
  private at = 0;
  private left = 0;

  constructor(readonly number: number, readonly bounds: LaneBounds) {}

  /** True when nothing is queued or half sent. */
  get empty(): boolean {
    return this.current === undefined && this.head === this.queue.length;
  }

  add(header: FrameHeader, payload: readonly Uint8Array[]): Promise<void> {
    const payloadBytes = payload.reduce((sum, part) => sum + part.length, 0);
    if (payloadBytes > this.bounds.frameBytes) {
      throw new FrameError(
        `Cannot send a frame of ${payloadBytes} bytes (${header.what}): the plan's largest on this lane has ` +
          `${this.bounds.frameBytes}`,
      );
    }
    const parts = [encodeFrame(header, payloadBytes), ...payload];
    return new Promise((handedOver, failed) => {
      this.queue.push({ parts, payloadBytes, handedOver, failed, waited: false });
    });
  }

  /** True when a piece can go now. `waits` is called once for a frame that must wait for credit. */
  ready(waits: () => void): boolean {
    if (this.current !== undefined) return true;
    const next = this.queue[this.head];
    if (next === undefined) return false;
    if (frameCost(next.payloadBytes) <= this.credit) return true;
    if (!next.waited) waits();
    next.waited = true;
    return false;
  }

  /**
   * Writes the next piece's bytes behind the first `prefix` bytes of a new message of at most `maxMessage` bytes, and
   * says which frame it ended. Only after `ready`.
   */
  piece(
    prefix: number,
    maxMessage: number,
  ): { message: Uint8Array<ArrayBuffer>; ended: Outgoing | undefined } {
    if (this.current === undefined) {
      this.current = this.queue[this.head++];
      // Shift the queue now and then rather than for every frame: 10,000 small ones would cost a quadratic time.
      if (this.head > 1_024) this.queue.splice(0, this.head), this.head = 0;
      this.credit -= frameCost(this.current.payloadBytes);
      this.part = this.at = 0;
      this.left = FRAME_BYTES + this.current.payloadBytes;
    }
    const { parts } = this.current, count = Math.min(this.left, maxMessage - prefix);
    const message = new Uint8Array(prefix + count);
    for (let filled = 0; filled < count;) {
      const part = parts[this.part], take = Math.min(count - filled, part.length - this.at);
      message.set(take === part.length ? part : part.subarray(this.at, this.at + take), prefix + filled);
      filled += take;
      this.at += take;
      if (this.at === part.length) this.part++, this.at = 0;
    }
    this.left -= count;
    if (this.left > 0) return { message, ended: undefined };
    const ended = this.current;
    this.current = undefined;
    return { message, ended };
  }

  /** Rejects everything that was not handed over. */
  fail(error: Error): void {
    this.current?.failed(error);
    for (const frame of this.queue.splice(this.head)) frame.failed(error);
    this.queue.length = this.head = 0;
    this.current = undefined;
  }
}

/** A frame that has arrived whole; without payload where it belongs to another generation. */
export interface Arrived {
  readonly header: FrameHeader;
  readonly payload: Uint8Array<ArrayBuffer> | undefined;
  readonly cost: number;
}

/** The receiving end. */
export class Receiver {
  /** Bytes of credit in use: frames that arrived, or began to, and were not consumed. */
  held = 0;
  /** Consumed and not yet given back. */
  owed = 0;
  private arriving:
    | { header: FrameHeader; payload: Uint8Array<ArrayBuffer> | undefined; bytes: number }
    | undefined;
  private at = 0;

  constructor(readonly bounds: LaneBounds, private readonly generation: number) {}

  /** True in the middle of a frame. */
  get busy(): boolean {
    return this.arriving !== undefined;
  }

  /** Takes the next piece's bytes; answers with the frame that it completes. Throws `FrameError` for a peer that lies. */
  piece(bytes: Uint8Array): Arrived | undefined {
    let rest = bytes;
    if (this.arriving === undefined) {
      const { header, payloadBytes } = decodeFrame(bytes);
      if (payloadBytes > this.bounds.frameBytes) {
        throw new FrameError(
          `A frame (${header.what}) of ${payloadBytes} bytes came, the plan's largest has ${this.bounds.frameBytes}`,
        );
      }
      if (this.held + this.owed + frameCost(payloadBytes) > this.bounds.window) {
        throw new FrameError(`A frame (${header.what}) of ${payloadBytes} bytes came without credit`);
      }
      this.held += frameCost(payloadBytes);
      const payload = header.generation === this.generation ? new Uint8Array(payloadBytes) : undefined;
      this.arriving = { header, payload, bytes: payloadBytes };
      this.at = 0;
      rest = bytes.subarray(FRAME_BYTES);
    } else if (bytes.length === 0) {
      throw new FrameError("A frame goes on with an empty piece");
    }
    const { header, payload, bytes: total } = this.arriving;
    if (rest.length > total - this.at) {
      throw new FrameError(`A frame (${header.what}) is longer than its ${total} bytes`);
    }
    payload?.set(rest, this.at);
    this.at += rest.length;
    if (this.at < total) return undefined;
    this.arriving = undefined;
    return { header, payload, cost: frameCost(total) };
  }

  /** Takes back a frame's cost; answers with the bytes to grant now (0: later). */
  consumed(cost: number): number {
    this.held -= cost;
    this.owed += cost;
    if (this.owed < this.bounds.grantAt) return 0;
    const grant = this.owed;
    this.owed = 0;
    return grant;
  }
}
