/**
 * Codecs of tensors on the road. `f32` and `zstd` keep every bit; `bf16`, `f16` and `int8` round: each of them is for
 * links over which that is worth the error. All work on raw little-endian f32 words.
 *
 * Errors, root mean square relative to that of the tensor, on normally distributed words: f16 2e-4, bf16 1.7e-3, int8
 * 6e-3 (`deno task bench links --codecs`).
 *
 * @module
 */
import { FrameError } from "../errors.ts";

/** By their number on the wire. */
export const CODECS = ["f32", "bf16", "f16", "int8", "zstd"] as const;
/** One of {@linkcode CODECS}. */
export type Codec = typeof CODECS[number];

/** Compression that the platform brings; browsers have none of this kind. */
export interface Zstd {
  compress(bytes: Uint8Array): Uint8Array<ArrayBuffer>;
  /** Throws where the bytes are not valid or become more than `most`. */
  decompress(bytes: Uint8Array, most: number): Uint8Array<ArrayBuffer>;
}

/** Words that share a scale in int8: larger blocks lose small words beside large ones, smaller ones cost more scales. */
const BLOCK = 64, SCALE_BYTES = 4, FULL_BLOCK = BLOCK + SCALE_BYTES;
/** Adding and subtracting it rounds a number of less than 2^51 to an integer, half to even. */
const ROUND = 6755399441055744;
/** What compression must leave at most to be worth the time that it takes at the other end. */
const WORTH = 0.95;

/** The codecs that a platform can both write and read. */
export function offeredCodecs(zstd: Zstd | undefined): Codec[] {
  const has = { f16: typeof Float16Array === "function", zstd: zstd !== undefined };
  return CODECS.filter((codec) => codec === "f16" || codec === "zstd" ? has[codec] : true);
}

/** True for codecs that give back exactly what was put in. */
export function lossless(codec: Codec): boolean {
  return codec === "f32" || codec === "zstd";
}

/**
 * Encodes f32 words; undefined where `codec` would not make them smaller, so that they are better sent as they are.
 * `residual`, for int8 only: what rounding left out of earlier words of the same tensor, which is added before and
 * replaced after (error feedback).
 */
export function encodeWords(
  codec: Codec,
  bytes: Uint8Array,
  zstd?: Zstd,
  residual?: Float32Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> | undefined {
  const words = bytes.length >> 2;
  if (bytes.length !== words << 2) throw new FrameError(`Cannot encode ${bytes.length} bytes as f32 words`);
  switch (codec) {
    case "f32":
      return undefined;
    case "bf16":
      return words === 0 ? undefined : encodeBf16(wordsOf(bytes, Uint32Array));
    case "f16": {
      if (words === 0) return undefined;
      const halves = new Float16Array(words);
      halves.set(wordsOf(bytes, Float32Array));
      return new Uint8Array(halves.buffer);
    }
    case "int8":
      return words < 2 ? undefined : encodeInt8(wordsOf(bytes, Float32Array), residual);
    case "zstd": {
      if (words === 0) return undefined;
      const packed = zstd!.compress(shuffled(bytes, words));
      return packed.length < bytes.length * WORTH ? packed : undefined;
    }
  }
}

/** The f32 words, as bytes that own their buffer, at most `most` of them. Throws `FrameError` for what `encodeWords` would not write. */
export function decodeWords(
  codec: Codec,
  bytes: Uint8Array,
  most: number,
  zstd?: Zstd,
): Uint8Array<ArrayBuffer> {
  const words = countWords(codec, bytes.length);
  if (words * 4 > most) {
    throw new FrameError(`A frame in ${codec} says ${words * 4} bytes, the plan's largest has ${most}`);
  }
  switch (codec) {
    case "f32":
      return bytes.slice();
    case "bf16": {
      const halves = wordsOf(bytes, Uint16Array), out = new Uint32Array(words);
      for (let i = 0; i < words; i++) out[i] = halves[i] << 16;
      return new Uint8Array(out.buffer);
    }
    case "f16": {
      const out = new Float32Array(words);
      out.set(wordsOf(bytes, Float16Array));
      return new Uint8Array(out.buffer);
    }
    case "int8":
      return decodeInt8(bytes, words);
    case "zstd": {
      if (zstd === undefined) throw new FrameError("A frame came in zstd, which this worker does not offer");
      let plain;
      try {
        plain = zstd.decompress(bytes, most);
      } catch {
        throw new FrameError(`A frame in zstd is damaged, or larger than the plan's ${most} bytes`);
      }
      if (plain.length % 4 !== 0) {
        throw new FrameError(`A frame in zstd holds ${plain.length} bytes, which are no f32 words`);
      }
      return unshuffled(plain, plain.length >> 2);
    }
  }
}

/** Words that so many bytes of a codec hold; 0 where only decoding tells. */
function countWords(codec: Codec, length: number): number {
  if (codec === "zstd") return 0;
  if (codec === "int8") {
    const rest = length % FULL_BLOCK;
    if (rest > 0 && rest <= SCALE_BYTES) {
      throw new FrameError(`A frame in int8 has ${length} bytes, which is no number of words`);
    }
    return (length - rest) / FULL_BLOCK * BLOCK + Math.max(0, rest - SCALE_BYTES);
  }
  const each = codec === "f32" ? 4 : 2;
  if (length % each !== 0) {
    throw new FrameError(`A frame in ${codec} has ${length} bytes, which is no number of words`);
  }
  return length / each;
}

/** A view as words, of a copy where the bytes do not lie on a word's border. */
function wordsOf<T>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBuffer, offset: number, length: number): T; readonly BYTES_PER_ELEMENT: number },
): T {
  const each = type.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % each === 0 && bytes.buffer instanceof ArrayBuffer
    ? bytes
    : bytes.slice();
  return new type(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.length / each);
}

/** The upper halves, rounded half to even; what is not a number stays so. */
function encodeBf16(words: Uint32Array): Uint8Array<ArrayBuffer> {
  const out = new Uint16Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    out[i] = (word & 0x7fff_ffff) > 0x7f80_0000
      ? word >>> 16 | 0x40
      : word + 0x7fff + (word >>> 16 & 1) >>> 16;
  }
  return new Uint8Array(out.buffer);
}

/** Blocks of an f32 scale and up to 64 bytes. A block with a word that is not finite gets that as its scale, and is as useless. */
function encodeInt8(words: Float32Array, residual?: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const blocks = Math.ceil(words.length / BLOCK), out = new Uint8Array(words.length + blocks * SCALE_BYTES);
  const view = new DataView(out.buffer), codes = new Int8Array(out.buffer);
  for (let block = 0, at = 0; block < blocks; block++) {
    const from = block * BLOCK, to = Math.min(words.length, from + BLOCK);
    let largest = 0;
    for (let i = from; i < to; i++) {
      const size = Math.abs(residual === undefined ? words[i] : words[i] + residual[i]);
      if (size > largest || Number.isNaN(size)) largest = size; // which nothing is larger than then
    }
    const scale = Math.fround(largest / 127), inverse = scale > 0 && scale < Infinity ? 1 / scale : 0;
    view.setFloat32(at, scale, true);
    at += SCALE_BYTES;
    for (let i = from; i < to; i++) {
      const word = residual === undefined ? words[i] : words[i] + residual[i];
      const code = Math.max(-127, Math.min(127, (word * inverse + ROUND) - ROUND));
      codes[at++] = code;
      if (residual !== undefined) residual[i] = scale < Infinity ? word - code * scale : 0;
    }
  }
  return out;
}

function decodeInt8(bytes: Uint8Array, words: number): Uint8Array<ArrayBuffer> {
  const out = new Float32Array(words), view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let from = 0, at = 0; from < words; from += BLOCK) {
    const scale = view.getFloat32(at, true), to = Math.min(words, from + BLOCK);
    at += SCALE_BYTES;
    // 0 x NaN and 0 x Infinity are NaN: a block that was not finite stays noticed.
    for (let i = from; i < to; i++) out[i] = view.getInt8(at++) * scale;
  }
  return new Uint8Array(out.buffer);
}

/** First bytes of all words, then second ones...: exponents lie together, and only they compress. */
function shuffled(bytes: Uint8Array, words: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(words * 4);
  for (let i = 0, at = 0; i < words; i++, at += 4) {
    out[i] = bytes[at];
    out[words + i] = bytes[at + 1];
    out[2 * words + i] = bytes[at + 2];
    out[3 * words + i] = bytes[at + 3];
  }
  return out;
}

function unshuffled(planes: Uint8Array, words: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(words * 4);
  for (let i = 0, at = 0; i < words; i++, at += 4) {
    out[at] = planes[i];
    out[at + 1] = planes[words + i];
    out[at + 2] = planes[2 * words + i];
    out[at + 3] = planes[3 * words + i];
  }
  return out;
}
