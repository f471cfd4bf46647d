/**
 * Tensors on the road: a fixed binary header, then raw little-endian words.
 *
 * ```text
 *  0 u32 magic "VLRF"     4 u8 version   5 u8 what   6 u8 flags   7 u8 codec
 *  8 u32 generation      12 u32 round   16 u32 index (stage or layer)
 * 20 u32 microbatch      24 u32 sequence              28 u32 payload bytes
 * ```
 *
 * @module
 */
import { FrameError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Codec, CODECS } from "./tensor_codec.ts";

/** What a frame carries; the place in the list is its number on the wire. */
export const WHATS = [
  "activation",
  "gradient",
  "expert-input",
  "expert-output",
  "expert-output-gradient",
  "expert-input-gradient",
  "tied-gradient",
  "tied-weight",
  // Without payload: the sender's pass through a share of the round is over, its hosts have had all of its rows.
  "expert-end",
  "replica-gradient",
  "replica-weight",
  "replica-delta",
] as const;
/** One of {@linkcode WHATS}. */
export type What = typeof WHATS[number];

/** The header of a frame but for the payload's size. All numbers are u32. */
export interface FrameHeader {
  readonly what: What;
  /** The round only evaluates. */
  readonly evaluate: boolean;
  readonly generation: number;
  readonly round: number;
  /**
   * The receiver's stage for activations, gradients and tied tensors; the layer for experts' rows, that plus one for what
   * replicas exchange (the embedding's is 0).
   */
  readonly index: number;
  readonly microbatch: number;
  /** Tells apart frames whose other fields agree. */
  readonly sequence: number;
  /** What the payload is written in; absent: f32, as it is. */
  readonly codec?: Codec;
}

/** Bytes of a header. */
export const FRAME_BYTES = 32;
/** "VLRF", little-endian. */
const MAGIC = 0x4652_4c56;
const VERSION = 1;
const EVALUATE = 1;
/** The numbers of a header, in their order on the wire from byte 8 on. */
const FIELDS = ["generation", "round", "index", "microbatch", "sequence"] as const;

/** Writes a header in front of `payloadBytes` bytes. Throws `FrameError` for a field that is no u32. */
export function encodeFrame(header: FrameHeader, payloadBytes: number): Uint8Array<ArrayBuffer> {
  const what = WHATS.indexOf(header.what);
  if (what < 0) throw new FrameError(`Cannot send a frame of "${header.what}": there is no such kind`);
  if (!Number.isInteger(payloadBytes) || payloadBytes < 0 || payloadBytes > limits.frameBytes) {
    throw new FrameError(`Cannot send a frame of ${payloadBytes} bytes: the most is ${limits.frameBytes}`);
  }
  const bytes = new Uint8Array(FRAME_BYTES), view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, VERSION);
  view.setUint8(5, what);
  view.setUint8(6, header.evaluate ? EVALUATE : 0);
  view.setUint8(7, CODECS.indexOf(header.codec ?? "f32"));
  const { generation, round, index, microbatch, sequence } = header;
  const fields = [generation, round, index, microbatch, sequence];
  for (let i = 0; i < fields.length; i++) {
    if (fields[i] >>> 0 !== fields[i]) {
      throw new FrameError(`Cannot send a frame with ${FIELDS[i]} ${fields[i]}: it must be a u32`);
    }
    view.setUint32(8 + 4 * i, fields[i], true);
  }
  view.setUint32(28, payloadBytes, true);
  return bytes;
}

/** Reads the header at the front of `bytes`. Throws `FrameError` for anything that `encodeFrame` would not write. */
export function decodeFrame(bytes: Uint8Array): { header: FrameHeader; payloadBytes: number } {
  if (bytes.length < FRAME_BYTES) {
    throw new FrameError(`A frame needs a header of ${FRAME_BYTES} bytes, got ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_BYTES);
  if (view.getUint32(0, true) !== MAGIC) throw new FrameError("A frame must begin with VLRF");
  const version = view.getUint8(4);
  if (version !== VERSION) {
    throw new FrameError(
      `The peer sends frames of version ${version}, this program reads version ${VERSION}`,
    );
  }
  const what = WHATS[view.getUint8(5)];
  if (what === undefined) throw new FrameError(`A frame has the unknown kind ${view.getUint8(5)}`);
  const flags = view.getUint8(6), codec = CODECS[view.getUint8(7)];
  if ((flags & ~EVALUATE) !== 0) throw new FrameError(`A frame has unknown flags ${flags}`);
  if (codec === undefined) throw new FrameError(`A frame has the unknown codec ${view.getUint8(7)}`);
  const payloadBytes = view.getUint32(28, true);
  if (payloadBytes > limits.frameBytes) {
    throw new FrameError(`A frame says ${payloadBytes} bytes, the most is ${limits.frameBytes}`);
  }
  return {
    header: {
      what,
      evaluate: (flags & EVALUATE) !== 0,
      generation: view.getUint32(8, true),
      round: view.getUint32(12, true),
      index: view.getUint32(16, true),
      microbatch: view.getUint32(20, true),
      sequence: view.getUint32(24, true),
      ...(codec === "f32" ? {} : { codec }),
    },
    payloadBytes,
  };
}
