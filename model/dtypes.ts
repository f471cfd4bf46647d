/**
 * The number formats of stored tensors, to and from f32. Little-endian throughout, as safetensors and every machine
 * with WebGPU are.
 *
 * @module
 */

/** Formats that are read and written, by their safetensors names. */
export type DType = "F32" | "F16" | "BF16";

/** Bytes of one element. */
export const bytesOf: Readonly<Record<DType, number>> = { F32: 4, F16: 2, BF16: 2 };

/** True for a format that is read and written. */
export function isDType(name: unknown): name is DType {
  return name === "F32" || name === "F16" || name === "BF16";
}

/** Stored bytes as f32; exact. `bytes` must hold whole elements. */
export function decodeWords(dtype: DType, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  // A copy where the view does not start on an element's boundary, as typed arrays need.
  const aligned = bytes.byteOffset % bytesOf[dtype] === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  if (dtype === "F32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2);
  const words = new Float32Array(halves.length);
  if (dtype === "F16") {
    words.set(new Float16Array(buffer, byteOffset, byteLength / 2));
    return words;
  }
  const bits = new Uint32Array(words.buffer);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  return words;
}

/** f32 as stored bytes, rounded to nearest, ties to even. F32 shares the memory of `words`. */
export function encodeWords(dtype: DType, words: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  if (dtype === "F16") return new Uint8Array(new Float16Array(words).buffer);
  const bits = new Uint32Array(words.buffer, words.byteOffset, words.length);
  const halves = new Uint16Array(words.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i];
    // A NaN keeps its quiet bit: rounding its payload up could turn it into an infinity.
    halves[i] = (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(halves.buffer);
}

/** Index of the first value that is NaN or infinite, or -1. */
export function firstNonFinite(words: Float32Array<ArrayBuffer>): number {
  const bits = new Uint32Array(words.buffer, words.byteOffset, words.length);
  for (let i = 0; i < bits.length; i++) if ((bits[i] & 0x7f800000) === 0x7f800000) return i;
  return -1;
}
