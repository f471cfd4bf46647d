/**
 * The two ends of a link's lane: frames cut into pieces within the peer's credit, and put together again within ours.
 *
 * @module
 */
import { FrameError } from "../errors.ts";
import { decodeFrame, encodeFrame, FRAME_BYTES, type FrameHeader } from "../tensors/frame.ts";
import { limits } from "../limits.ts";
import type { LaneSize } from "./link.ts";
import type { Codec } from "../tensors/tensor_codec.ts";

/** What holding a frame costs beside its payload: the objects around it. Frames without payload are not free. */
const FRAME_COST = 256;

/** How many times as large a payload can be once it is decoded; zstd's is known only then. */
const GROWTH: Readonly<Record<Codec, number>> = { f32: 1, bf16: 2, f16: 2, int8: 4, zstd: Infinity };

/**
 * Bytes of credit that a frame of `payloadBytes` takes: what holding it costs once it is decoded, where the lane's largest
 * has `most`.
 */
export function frameCost(payloadBytes: number, codec: Codec = "f32", most = payloadBytes): number {
  return (codec === "f32" ? payloadBytes : Math.min(most, payloadBytes * GROWTH[codec])) + FRAME_COST;
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
    const sized = typeof size !== "number";
    const { frameBytes, frames } = sized ? size : { frameBytes: size, frames: limits.grantedFrames };
    if (!(Number.isInteger(frameBytes) && frameBytes >= 0 && frameBytes <= limits.frameBytes)) {
      throw new FrameError(
        `Cannot make a lane for frames of ${frameBytes} bytes: the most is ${limits.frameBytes}`,
      );
    }
    if (!(Number.isInteger(frames) && frames >= 1)) {
      throw new FrameError(`Cannot make a lane of ${frames} frames`);
    }
    this.frameBytes = frameBytes;
    // Lanes of small frames get what all channels of a link hold, so that they need not stop for every answer; where the
    // plan counts frames, twice what one of them holds.
    const least = (sized ? 2 : limits.paths) * limits.highWaterBytes;
    // Each grant is a message against the stream: a third of the window, but no frame more than the plan counts.
    this.grantAt = sized ? Math.min(frameCost(frameBytes), limits.lowWaterBytes) : least / 2;
    this.window = Math.max(frames * frameCost(frameBytes), least) + this.grantAt;
  }
}

/** A frame on its way out. */
interface Outgoing {
  /** The header and the payload's parts. */
  readonly parts: readonly Uint8Array[];
  readonly payloadBytes: number;
  /** Credit that it takes. */
  readonly cost: number;
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
    const cost = frameCost(payloadBytes, header.codec, this.bounds.frameBytes);
    return new Promise((handedOver, failed) => {
      this.queue.push({ parts, payloadBytes, cost, handedOver, failed, waited: false });
    });
  }

  /** True when a piece can go now. `waits` is called once for a frame that must wait for credit. */
  ready(waits: () => void): boolean {
    if (this.current !== undefined) return true;
    const next = this.queue[this.head];
    if (next === undefined) return false;
    if (next.cost <= this.credit) return true;
    if (!next.waited) waits();
    next.waited = true;
    return false;
  }

  /**
   * Makes a message of at most `maxMessage` bytes: `prefix` bytes for the caller, then as many as there are of the
   * current frame and of small ones behind it. `room` gives its memory, whatever that holds. Says which frames it ended.
   * Only after `ready`.
   */
  piece(
    prefix: number,
    maxMessage: number,
    room: (bytes: number) => Uint8Array<ArrayBuffer>,
  ): { message: Uint8Array<ArrayBuffer>; ended: Outgoing[] } {
    this.current ??= this.take();
    let count = Math.min(this.left, maxMessage - prefix);
    // Frames that fit wholly behind the current one's end: a message costs a data channel the same, large or small.
    let last = this.head;
    if (count === this.left) {
      let credit = this.credit;
      for (; last < this.queue.length; last++) {
        const { payloadBytes, cost } = this.queue[last], size = FRAME_BYTES + payloadBytes;
        credit -= cost;
        if (credit < 0 || prefix + count + size > maxMessage) break;
        count += size;
      }
    }
    const message = room(prefix + count), ended: Outgoing[] = [];
    for (let filled = prefix; filled < message.length;) {
      this.current ??= this.take();
      filled = this.fill(message, filled);
      if (this.left > 0) break;
      ended.push(this.current);
      this.current = undefined;
    }
    return { message, ended };
  }

  /** Makes the queue's first frame the current one, paid from the credit. */
  private take(): Outgoing {
    const frame = this.queue[this.head++];
    // Shift the queue now and then rather than for every frame: 10,000 small ones would cost a quadratic time.
    if (this.head > 1_024) this.queue.splice(0, this.head), this.head = 0;
    this.credit -= frame.cost;
    this.part = this.at = 0;
    this.left = FRAME_BYTES + frame.payloadBytes;
    return frame;
  }

  /** Copies bytes of the current frame to `message` from `filled` on, until either ends. */
  private fill(message: Uint8Array, filled: number): number {
    const { parts } = this.current!;
    while (filled < message.length && this.left > 0) {
      const part = parts[this.part], take = Math.min(message.length - filled, part.length - this.at);
      message.set(take === part.length ? part : part.subarray(this.at, this.at + take), filled);
      filled += take;
      this.at += take;
      this.left -= take;
      if (this.at === part.length) this.part++, this.at = 0;
    }
    return filled;
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
    | { header: FrameHeader; payload: Uint8Array<ArrayBuffer> | undefined; bytes: number; cost: number }
    | undefined;
  private at = 0;

  constructor(readonly bounds: LaneBounds, private readonly generation: number) {}

  /** True in the middle of a frame. */
  get busy(): boolean {
    return this.arriving !== undefined;
  }

  /**
   * Takes a piece's bytes: the rest of a frame, or frames from their headers on. Calls `arrive` for each frame that is
   * complete. Throws `FrameError` for a peer that lies.
   */
  piece(bytes: Uint8Array, arrive: (arrived: Arrived) => void): void {
    if (bytes.length === 0) throw new FrameError("A piece of a frame came without bytes");
    for (let rest = bytes; rest.length > 0;) {
      if (this.arriving === undefined) {
        this.begin(rest);
        rest = rest.subarray(FRAME_BYTES);
      }
      const { header, payload, bytes: total, cost } = this.arriving!,
        count = Math.min(rest.length, total - this.at);
      payload?.set(count === rest.length ? rest : rest.subarray(0, count), this.at);
      this.at += count;
      if (this.at < total) return;
      this.arriving = undefined;
      arrive({ header, payload, cost });
      rest = rest.subarray(count);
    }
  }

  /** Checks the header of a frame that begins, and reserves its room. */
  private begin(bytes: Uint8Array): void {
    const { header, payloadBytes } = decodeFrame(bytes);
    if (payloadBytes > this.bounds.frameBytes) {
      throw new FrameError(
        `A frame (${header.what}) of ${payloadBytes} bytes came, the plan's largest has ${this.bounds.frameBytes}`,
      );
    }
    const cost = frameCost(payloadBytes, header.codec, this.bounds.frameBytes);
    if (this.held + this.owed + cost > this.bounds.window) {
      throw new FrameError(`A frame (${header.what}) of ${payloadBytes} bytes came without credit`);
    }
    this.held += cost;
    const payload = header.generation === this.generation ? new Uint8Array(payloadBytes) : undefined;
    this.arriving = { header, payload, bytes: payloadBytes, cost };
    this.at = 0;
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
