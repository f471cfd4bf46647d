/**
 * A WebAssembly function that computes sums of products four words at a time, assembled here: plain JavaScript cannot say
 * "multiply and add in f32" without two conversions for each operation, which makes it eight times slower.
 *
 * f32x4.mul and f32x4.add round as Math.fround does after every operation, so nothing changes but the speed.
 *
 * @module
 */

/** Rows and columns of the block of sums that one step computes. */
export const BLOCK_ROWS = 4;
export const BLOCK_COLUMNS = 8;

/** The function and the memory that it works in. */
export interface SimdPanels {
  /**
   * For each of `panels` panels at byte `a` (k steps of {@linkcode BLOCK_ROWS} words, one panel after another): its
   * products with the panel at byte `b` (k steps of {@linkcode BLOCK_COLUMNS} words), summed in order of k, as a dense
   * block of rows at byte `out`, one block after another. `panels` is at least 1.
   */
  readonly multiply: (a: number, b: number, out: number, k: number, panels: number) => void;
  /** The memory's words; grown to at least `words`, which detaches what was handed out before. */
  readonly memory: (words: number) => Float32Array<ArrayBuffer>;
}

const V128 = 0x7b, I32 = 0x7f, EMPTY = 0x40;
const PAGE_WORDS = 16384;

/** A number below 2^28 in LEB128. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  do {
    const rest = value >>> 7;
    bytes.push((value & 0x7f) | (rest === 0 ? 0 : 0x80));
    value = rest;
  } while (value !== 0);
  return bytes;
}

function section(id: number, content: number[]): number[] {
  return [id, ...leb(content.length), ...content];
}

function text(name: string): number[] {
  return [name.length, ...new TextEncoder().encode(name)];
}

const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const tee = (local: number) => [0x22, local];
/** A signed constant below 64 is one byte; 64 and more take two. */
const constant = (value: number) => [0x41, ...(value < 64 ? [value] : [(value & 0x7f) | 0x80, value >>> 7])];
const add = 0x6a, subtract = 0x6b, end = 0x0b;
const vector = (opcode: number) => [0xfd, ...leb(opcode)];
const load = (offset: number) => [...vector(0x00), 4, ...leb(offset)];
const loadSplat = (offset: number) => [...vector(0x09), 2, ...leb(offset)];
const store = (offset: number) => [...vector(0x0b), 4, ...leb(offset)];
const zero = [...vector(0x0c), ...new Array<number>(16).fill(0)];
const addVectors = vector(0xe4), multiplyVectors = vector(0xe6);

/** The body of `multiply`: a loop over panels of a, in it a loop over k with the block's sums in eight registers. */
function body(): number[] {
  const [a, b, out, k, panels, step, left] = [0, 1, 2, 3, 4, 5, 6];
  const low = 7, high = 8, splat = 9, sum = 10;
  const sums = BLOCK_ROWS * 2;
  const code: number[] = [];
  code.push(0x03, EMPTY);
  code.push(...get(b), ...set(step), ...get(k), ...set(left));
  for (let i = 0; i < sums; i++) code.push(...zero, ...set(sum + i));
  code.push(0x02, EMPTY, ...get(left), 0x45, 0x0d, 0);
  code.push(0x03, EMPTY);
  code.push(...get(step), ...load(0), ...set(low), ...get(step), ...load(16), ...set(high));
  for (let row = 0; row < BLOCK_ROWS; row++) {
    code.push(...get(a), ...loadSplat(4 * row), ...set(splat));
    [low, high].forEach((half, j) => {
      const target = sum + 2 * row + j;
      code.push(
        ...get(target),
        ...get(splat),
        ...get(half),
        ...multiplyVectors,
        ...addVectors,
        ...set(target),
      );
    });
  }
  code.push(...get(a), ...constant(4 * BLOCK_ROWS), add, ...set(a));
  code.push(...get(step), ...constant(4 * BLOCK_COLUMNS), add, ...set(step));
  code.push(...get(left), ...constant(1), subtract, ...tee(left), 0x0d, 0, end, end);
  for (let i = 0; i < sums; i++) code.push(...get(out), ...get(sum + i), ...store(16 * i));
  code.push(...get(out), ...constant(4 * BLOCK_ROWS * BLOCK_COLUMNS), add, ...set(out));
  code.push(...get(panels), ...constant(1), subtract, ...tee(panels), 0x0d, 0, end, end);
  const locals = [2, 2, I32, 3 + sums, V128];
  return [...locals, ...code];
}

function assemble(): Uint8Array<ArrayBuffer> {
  const code = body();
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 5, I32, I32, I32, I32, I32, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(7, [2, ...text("memory"), 2, 0, ...text("multiply"), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

/** Instantiates the function, or answers with nothing where the engine has no WebAssembly vectors or forbids it. */
export function simdPanels(): SimdPanels | undefined {
  const bytes = assemble();
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(bytes)) return undefined;
  let instance: WebAssembly.Instance;
  try {
    instance = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  } catch (error) {
    // A page's content security policy may forbid compiling; the plain way gives the same numbers.
    if (error instanceof WebAssembly.CompileError) return undefined;
    throw error;
  }
  const { memory, multiply } = instance.exports as {
    memory: WebAssembly.Memory;
    multiply: SimdPanels["multiply"];
  };
  let words = new Float32Array(memory.buffer as ArrayBuffer);
  return {
    multiply,
    memory(count) {
      if (words.length < count) {
        memory.grow(Math.ceil((count - words.length) / PAGE_WORDS));
        words = new Float32Array(memory.buffer as ArrayBuffer);
      }
      return words;
    },
  };
}
