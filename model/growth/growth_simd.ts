/**
 * A row of values times a factor, four at a time: a WebAssembly function, because plain JavaScript takes three times as long
 * for it, and growing a large model is little else.
 *
 * It does not share the few lines of assembler with the matrix products' function, because the coordinator may grow models
 * and reaches no kernel.
 *
 * f64x2.mul rounds as JavaScript's `*` and the way back to f32 as Math.fround, so nothing changes but the speed.
 *
 * @module
 */
/** Shorter rows are not worth the call. */
export const shortestRun = 32;

/** The function and the memory that it works in. */
export interface SimdScale {
  /** For `quads` * 4 values: f32 at byte `to` = f32(f32 at byte `from` * scale * factor), multiplied in f64 in this order. */
  readonly scale: (from: number, to: number, quads: number, scale: number, factor: number) => void;
  readonly words: Float32Array<ArrayBuffer>;
}

const I32 = 0x7f, F64 = 0x7c, V128 = 0x7b, EMPTY = 0x40;
/** Pages of 64 KiB: 512 KiB, half for what comes and half for what goes, small enough to stay in a core's cache. */
const pages = 8;

/** A number below 2^14 in LEB128. */
const leb = (value: number) => value < 128 ? [value] : [(value & 0x7f) | 0x80, value >>> 7];
const section = (id: number, content: number[]) => [id, ...leb(content.length), ...content];
const text = (name: string) => [name.length, ...new TextEncoder().encode(name)];
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const vector = (opcode: number) => [0xfd, ...leb(opcode)];
const loadPair = (offset: number) => [...vector(0x5d), 2, ...leb(offset)];
const storePair = (offset: number) => [...vector(0x5b), 2, ...leb(offset), 0];
const promote = vector(0x5f), demote = vector(0x5e), multiply = vector(0xf2), splat = vector(0x14);
const add = 0x6a, subtract = 0x6b, end = 0x0b;

function assemble(): Uint8Array<ArrayBuffer> {
  const [from, to, quads, scale, factor, scales, factors] = [0, 1, 2, 3, 4, 5, 6];
  const pair = (offset: number) => [
    ...get(to),
    ...[...get(from), ...loadPair(offset), ...promote],
    ...[...get(scales), ...multiply, ...get(factors), ...multiply, ...demote],
    ...storePair(offset),
  ];
  const step = (local: number, bytes: number) => [...get(local), 0x41, bytes, add, ...set(local)];
  const code = [
    ...[1, 2, V128],
    ...[...get(scale), ...splat, ...set(scales), ...get(factor), ...splat, ...set(factors)],
    ...[0x02, EMPTY, ...get(quads), 0x45, 0x0d, 0], // no quads: past the loop
    ...[0x03, EMPTY, ...pair(0), ...pair(8), ...step(from, 16), ...step(to, 16)],
    ...[...get(quads), 0x41, 1, subtract, 0x22, quads, 0x0d, 0, end, end, end],
  ];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 5, I32, I32, I32, F64, F64, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, pages]),
    ...section(7, [2, ...text("memory"), 2, 0, ...text("scale"), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

let made: { readonly simd: SimdScale | undefined } | undefined;

/** The function, made once, or nothing where the engine has no WebAssembly vectors or forbids it. */
export function simdScale(): SimdScale | undefined {
  made ??= { simd: instantiate(assemble()) };
  return made.simd;
}

function instantiate(bytes: Uint8Array<ArrayBuffer>): SimdScale | undefined {
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(bytes)) return undefined;
  let instance: WebAssembly.Instance;
  try {
    instance = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  } catch (error) {
    // A page's content security policy may forbid compiling; the plain way gives the same numbers.
    if (error instanceof WebAssembly.CompileError) return undefined;
    throw error;
  }
  const { memory, scale } = instance.exports as { memory: WebAssembly.Memory; scale: SimdScale["scale"] };
  return { scale, words: new Float32Array(memory.buffer as ArrayBuffer) };
}
