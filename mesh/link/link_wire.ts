/**
 * The messages of a link: one byte that says what it is, then its body. Hello, abort, ping, pong and arrived belong to a
 * channel; the others to the link, and travel numbered.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";

/** The first byte of a message of a link. Hello and its version come first and stay the same in all versions. */
export const KIND = {
  hello: 0,
  ready: 1,
  /** u8 lane, then the bytes of a frame. */
  data: 2,
  /** u8 lane, f64 bytes that the sender of the message takes in addition. */
  credit: 3,
  ping: 4,
  pong: 5,
  /** The last frame was sent. */
  bye: 6,
  /** Everything before the other's bye has arrived. */
  byeAck: 7,
  /** The answer to bye has arrived; the other end may close the channel. */
  fin: 8,
  /** Gives up; UTF-8 text why. */
  abort: 9,
  /** u32 number, then one of the messages above: its place in the order of the link, whichever channel it takes. */
  numbered: 20,
  /** u32: so many numbered messages have arrived over this channel. */
  arrived: 21,
  /** Shows who it is; see handshake.ts. */
  proof: 10,
  /** Does not take the other end for who it should be: u8 why, u16 own version. Stays the same in all versions. */
  refuse: 11,
} as const;

/** Bytes before a piece's own in a data message. */
export const DATA_PREFIX = 2;

/** Grants `bytes` more on a lane. */
export function encodeCredit(lane: number, bytes: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(10);
  message[0] = KIND.credit;
  message[1] = lane;
  new DataView(message.buffer).setFloat64(2, bytes, true);
  return message;
}

/** The lane, which may be unknown here, and the bytes. Throws `LinkError` for bytes that are no such number. */
export function decodeCredit(message: Uint8Array): { lane: number; bytes: number } {
  const bytes = message.length === 10 ? view(message).getFloat64(2, true) : NaN;
  if (!(Number.isSafeInteger(bytes) && bytes > 0)) {
    throw new LinkError("The peer grants credit that is no number of bytes");
  }
  return { lane: message[1], bytes };
}

/** `kind` with a number: ping, pong and arrived. */
export function encodeNumber(kind: number, id: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(5);
  message[0] = kind;
  new DataView(message.buffer).setUint32(1, id, true);
  return message;
}

/** The number of a message of {@linkcode encodeNumber}. Throws `LinkError` for one of another size. */
export function decodeNumber(message: Uint8Array): number {
  if (message.length !== 5) throw new LinkError("A ping, pong or count of the peer has the wrong size");
  return view(message).getUint32(1, true);
}

/** Says why this end gives up. */
export function encodeAbort(reason: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(reason.slice(0, limits.textLength));
  const message = new Uint8Array(1 + text.length);
  message[0] = KIND.abort;
  message.set(text, 1);
  return message;
}

/** The reason, bounded and without control characters, as it may end up on a terminal. */
export function decodeAbort(message: Uint8Array): string {
  const text = new TextDecoder().decode(message.subarray(1, 1 + 4 * limits.textLength));
  // deno-lint-ignore no-control-regex
  return text.slice(0, limits.textLength).replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}

function view(message: Uint8Array): DataView {
  return new DataView(message.buffer, message.byteOffset, message.length);
}
