/**
 * A link: frames between two workers, whole and in order, over any channel. Frames travel in lanes that share the
 * channel piece by piece and have credits of their own: the receiver grants bytes ahead and never holds more, and
 * unread frames of one lane cannot hold up another. Credits, signs of life and the close handshake wait for nothing.
 *
 * @module
 */
import type { SendBudget } from "./budget.ts";
import type { BundleCounters } from "./bundle.ts";
import type { FrameHeader } from "../tensors/frame.ts";
import type { Greeting } from "./greeting.ts";

/** Traffic classes with credits of their own; the place in the list is the number on the wire. */
export const LANES = ["pipeline", "request", "reply"] as const;
/** `pipeline`: activations, gradients, tied tensors. `request`: rows for a host's experts. `reply`: what came of them. */
export type Lane = typeof LANES[number];

/** The largest payload of a lane's frames in bytes, alone or with the number of such frames that are granted ahead. */
export type LaneSize = number | { readonly frameBytes: number; readonly frames: number };

/** Who talks to whom, and how large what they say may be. */
export interface LinkOptions extends Greeting {
  /** From the plan, so the same at both ends. */
  readonly lanes: Readonly<Record<Lane, LaneSize>>;
  /** What all links of this worker may send together; absent: as much as goes. */
  readonly budget?: SendBudget;
}

/** How a link ended. */
export interface LinkClosed {
  /** Both ends agreed and everything that was sent has arrived. */
  readonly orderly: boolean;
  readonly reason: string;
}

/** What a link counted so far. */
export interface LinkCounters extends BundleCounters {
  framesSent: number;
  framesReceived: number;
  /** Payload bytes. */
  bytesSent: number;
  bytesReceived: number;
  /** Frames of other generations, dropped. */
  dropped: number;
  /** Frames that had to wait for credit. */
  creditWaits: number;
  /** Bytes that came in the middle of frames, and the time from the piece before to each, ms: what the road carries. */
  streamedBytes: number;
  streamingMs: number;
  /** The most bytes held at once, over all lanes, that arrived (or had begun to) and were not yet consumed. */
  mostHeld: number;
}

/**
 * Takes a frame. The payload owns its buffer and may be transferred. `consumed` gives the room back to the sender:
 * call it once, when the payload is no longer held (or has become part of something that is counted elsewhere).
 */
export type FrameHandler = (
  lane: Lane,
  header: FrameHeader,
  payload: Uint8Array<ArrayBuffer>,
  consumed: () => void,
) => void;

/** One end of a link. */
export interface Link {
  readonly peer: string;
  readonly kind: string;
  readonly counters: Readonly<LinkCounters>;
  /** Frames that arrive before it is set are kept (within the credit) and delivered on setting. */
  onframe: FrameHandler | undefined;
  /** True after `limits.suspectedMs` of silence, false again when the peer is heard. */
  onsuspected: ((suspected: boolean) => void) | undefined;
  readonly closed: Promise<LinkClosed>;
  /**
   * Sends the parts as one frame, in order within its lane. Resolves once all of it is handed over within the peer's
   * credit and the channel's window; until then the parts must not change. Rejects with `LinkError` when the link is
   * gone, with `FrameError` when the frame is larger than its lane allows.
   */
  send(lane: Lane, header: FrameHeader, parts: readonly Uint8Array[]): Promise<void>;
  /**
   * Finishes what was sent, receives what the peer had sent, then closes; the peer's end closes with it. Waits for a
   * slow consumer as long as the peer lives; `abort` cuts it short. Resolves when done.
   */
  close(): Promise<LinkClosed>;
  /** Gives up at once; what is under way may be lost. */
  abort(reason: string): void;
}
