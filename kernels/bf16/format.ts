/**
 * bf16: the upper half of an f32, eight bits of precision and f32's range. *Packed* rows hold two elements in a word, the even
 * column in its low half; every row begins at a word, and the half that an odd width leaves is zero.
 *
 * Two properties make packed products the same on every device: rounding is to the nearest (of two equally near the even),
 * a function of bits alone, and a product of two bf16 numbers is exact in f32, so that nothing depends on fused additions.
 *
 * @module
 */

/** Words of a packed row of `width` elements. */
export function packedWidth(width: number): number {
  return Math.ceil(width / 2);
}

/** The 16 bits of the bf16 number that is nearest to the f32 with these bits; not-a-number stays that. */
function nearest(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Packs f32 rows; `words` gets rows * packedWidth(width) words. */
export function packInto(
  words: Uint32Array,
  values: Float32Array,
  rows: number,
  width: number,
): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, rows * width);
  const packed = packedWidth(width), odd = width % 2 === 1;
  for (let r = 0; r < rows; r++) {
    let from = r * width;
    const start = r * packed, end = start + (width >> 1);
    for (let to = start; to < end; to++, from += 2) {
      words[to] = nearest(bits[from]) | (nearest(bits[from + 1]) << 16);
    }
    if (odd) words[end] = nearest(bits[from]);
  }
}

/** The f32 values of packed rows, exactly. */
export function unpackRows(words: Uint32Array, rows: number, width: number): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(rows * width);
  const packed = packedWidth(width), odd = width % 2 === 1;
  for (let r = 0; r < rows; r++) {
    let to = r * width;
    const start = r * packed, end = start + (width >> 1);
    for (let from = start; from < end; from++, to += 2) {
      bits[to] = words[from] << 16;
      bits[to + 1] = words[from] & 0xffff0000;
    }
    if (odd) bits[to] = words[end] << 16;
  }
  return new Float32Array(bits.buffer);
}

/** `values` rounded to bf16 and back. */
export function roundToBf16(values: Float32Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(packedWidth(values.length));
  packInto(words, values, 1, values.length);
  return unpackRows(words, 1, values.length);
}

/** For programs: `nearest_bf16` gives the bits of four numbers, `two_words` packs them, `one_word` packs two. */
export const PACK = `fn nearest_bf16(x: vec4f) -> vec4u {
  let bits = bitcast<vec4u>(x);
  let upper = bits >> vec4u(16u);
  let rounded = (bits + vec4u(0x7fffu) + (upper & vec4u(1u))) >> vec4u(16u);
  return select(rounded, upper | vec4u(0x40u), (bits & vec4u(0x7fffffffu)) > vec4u(0x7f800000u));
}
fn two_words(x: vec4f) -> vec2u {
  let halves = nearest_bf16(x);
  return halves.xz | (halves.yw << vec2u(16u));
}
fn four_words(x: vec4f, y: vec4f) -> vec4u {
  return vec4u(two_words(x), two_words(y));
}
fn one_word(low: f32, high: f32) -> u32 {
  return two_words(vec4f(low, high, 0.0, 0.0)).x;
}
`;
