/**
 * Matrix products on plain arrays: blocks of sums at a time, each in order of k and rounded to f32 after every operation,
 * which is what the programs compute bit for bit.
 *
 * @module
 */
import { BLOCK_COLUMNS, BLOCK_ROWS, simdPanels } from "./simd.ts";

/** Where the elements of a factor or result lie: word = start + row * rowStep + column * columnStep. */
export interface Matrix {
  readonly words: Float32Array;
  readonly start: number;
  readonly rowStep: number;
  readonly columnStep: number;
}

/** What happens to a sum: overwrite, add to the old result, add a row of biases, or add a matrix of the result's layout. */
export type Finish =
  | { readonly kind: "set" | "accumulate" }
  | { readonly kind: "bias"; readonly words: Float32Array }
  | { readonly kind: "add"; readonly words: Float32Array };

const { fround } = Math;

/** Products below which packing costs more than vectors save (for a single row it always does). */
const WORTH_PACKING = 4096;

/** Words of packed rows kept in the cache while all columns pass by. */
const PACKED_WORDS = 2 ** 17;

const simd = simdPanels();

/** c[m,n] = a[m,k] b[k,n], c's columns adjacent; k is the column of a and the row of b. */
export function multiply(
  m: number,
  n: number,
  k: number,
  a: Matrix,
  b: Matrix,
  c: Matrix,
  finish: Finish,
): void {
  if (simd === undefined || m === 1 || m * n * k < WORTH_PACKING) multiplyPlain(m, n, k, a, b, c, finish);
  else multiplySimd(m, n, k, a, b, c, finish);
}

/** The same by vectors: rows of a and columns of b are packed into panels, in the order in which the sums need them. */
function multiplySimd(
  m: number,
  n: number,
  k: number,
  a: Matrix,
  b: Matrix,
  c: Matrix,
  finish: Finish,
): void {
  const most = Math.max(1, Math.floor(PACKED_WORDS / (k * BLOCK_ROWS)));
  const panels = Math.min(most, Math.ceil(m / BLOCK_ROWS));
  const bStart = panels * k * BLOCK_ROWS;
  const outStart = bStart + k * BLOCK_COLUMNS;
  const words = simd!.memory(outStart + panels * BLOCK_ROWS * BLOCK_COLUMNS);
  for (let row = 0; row < m; row += panels * BLOCK_ROWS) {
    const rows = Math.min(m - row, panels * BLOCK_ROWS);
    const count = Math.ceil(rows / BLOCK_ROWS);
    for (let panel = 0; panel < count; panel++) {
      const first = a.start + (row + panel * BLOCK_ROWS) * a.rowStep;
      const there = Math.min(BLOCK_ROWS, rows - panel * BLOCK_ROWS);
      pack(words, panel * k * BLOCK_ROWS, BLOCK_ROWS, a.words, first, a.rowStep, there, a.columnStep, k);
    }
    for (let column = 0; column < n; column += BLOCK_COLUMNS) {
      const columns = Math.min(BLOCK_COLUMNS, n - column);
      const first = b.start + column * b.columnStep;
      pack(words, bStart, BLOCK_COLUMNS, b.words, first, b.columnStep, columns, b.rowStep, k);
      simd!.multiply(0, bStart * 4, outStart * 4, k, count);
      for (let i = 0; i < rows; i++) {
        store(words, outStart + i * BLOCK_COLUMNS, columns, c, row + i, column, finish);
      }
    }
  }
}

/** Copies `there` lines (zeros for the rest of `width`) of k words each, word by word beside each other. */
function pack(
  to: Float32Array,
  at: number,
  width: number,
  from: Float32Array,
  start: number,
  lineStep: number,
  there: number,
  step: number,
  k: number,
): void {
  if (there < width) to.fill(0, at, at + k * width);
  for (let line = 0; line < there; line++) {
    let source = start + line * lineStep;
    for (let target = at + line; target < at + k * width; target += width) {
      to[target] = from[source];
      source += step;
    }
  }
}

/** Finishes and stores the sums of one row of a block. */
function store(
  sums: Float32Array,
  start: number,
  columns: number,
  c: Matrix,
  row: number,
  column: number,
  finish: Finish,
): void {
  let at = c.start + row * c.rowStep + column;
  const { words } = c;
  if (finish.kind === "bias") {
    for (let j = 0; j < columns; j++) words[at++] = sums[start + j] + finish.words[column + j];
  } else if (finish.kind === "add") {
    for (let j = 0; j < columns; j++, at++) words[at] = finish.words[at] + sums[start + j];
  } else if (finish.kind === "accumulate") {
    for (let j = 0; j < columns; j++) words[at++] += sums[start + j];
  } else {
    for (let j = 0; j < columns; j++) words[at++] = sums[start + j];
  }
}

/** The same without vectors, for engines that have none, and for small products. */
export function multiplyPlain(
  m: number,
  n: number,
  k: number,
  a: Matrix,
  b: Matrix,
  c: Matrix,
  finish: Finish,
): void {
  const sums = new Float32Array(16);
  for (let column = 0; column < n; column += 4) {
    const columns = Math.min(4, n - column);
    for (let row = 0; row < m; row += 4) {
      const rows = Math.min(4, m - row);
      if (rows === 4 && columns === 4) block(k, a, row, b, column, sums);
      else edge(k, a, row, rows, b, column, columns, sums);
      for (let i = 0; i < rows; i++) store(sums, 4 * i, columns, c, row + i, column, finish);
    }
  }
}

/** Sixteen sums at once. Every variable is f32: engines then compute in f32 registers. */
function block(k: number, a: Matrix, row: number, b: Matrix, column: number, sums: Float32Array): void {
  const x = a.words, y = b.words;
  const xStep = a.columnStep, yStep = b.rowStep;
  let x0 = a.start + row * a.rowStep;
  let x1 = x0 + a.rowStep, x2 = x1 + a.rowStep, x3 = x2 + a.rowStep;
  let y0 = b.start + column * b.columnStep;
  let y1 = y0 + b.columnStep, y2 = y1 + b.columnStep, y3 = y2 + b.columnStep;
  let s00 = fround(0), s01 = fround(0), s02 = fround(0), s03 = fround(0);
  let s10 = fround(0), s11 = fround(0), s12 = fround(0), s13 = fround(0);
  let s20 = fround(0), s21 = fround(0), s22 = fround(0), s23 = fround(0);
  let s30 = fround(0), s31 = fround(0), s32 = fround(0), s33 = fround(0);
  for (let step = 0; step < k; step++) {
    const u0 = x[x0], u1 = x[x1], u2 = x[x2], u3 = x[x3];
    const v0 = y[y0], v1 = y[y1], v2 = y[y2], v3 = y[y3];
    s00 = fround(s00 + fround(u0 * v0));
    s01 = fround(s01 + fround(u0 * v1));
    s02 = fround(s02 + fround(u0 * v2));
    s03 = fround(s03 + fround(u0 * v3));
    s10 = fround(s10 + fround(u1 * v0));
    s11 = fround(s11 + fround(u1 * v1));
    s12 = fround(s12 + fround(u1 * v2));
    s13 = fround(s13 + fround(u1 * v3));
    s20 = fround(s20 + fround(u2 * v0));
    s21 = fround(s21 + fround(u2 * v1));
    s22 = fround(s22 + fround(u2 * v2));
    s23 = fround(s23 + fround(u2 * v3));
    s30 = fround(s30 + fround(u3 * v0));
    s31 = fround(s31 + fround(u3 * v1));
    s32 = fround(s32 + fround(u3 * v2));
    s33 = fround(s33 + fround(u3 * v3));
    x0 += xStep;
    x1 += xStep;
    x2 += xStep;
    x3 += xStep;
    y0 += yStep;
    y1 += yStep;
    y2 += yStep;
    y3 += yStep;
  }
  sums[0] = s00;
  sums[1] = s01;
  sums[2] = s02;
  sums[3] = s03;
  sums[4] = s10;
  sums[5] = s11;
  sums[6] = s12;
  sums[7] = s13;
  sums[8] = s20;
  sums[9] = s21;
  sums[10] = s22;
  sums[11] = s23;
  sums[12] = s30;
  sums[13] = s31;
  sums[14] = s32;
  sums[15] = s33;
}

/** The sums of a block that sticks out of the result. */
function edge(
  k: number,
  a: Matrix,
  row: number,
  rows: number,
  b: Matrix,
  column: number,
  columns: number,
  sums: Float32Array,
): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = fround(0);
      let x = a.start + (row + i) * a.rowStep;
      let y = b.start + (column + j) * b.columnStep;
      for (let step = 0; step < k; step++) {
        sum = fround(sum + fround(a.words[x] * b.words[y]));
        x += a.columnStep;
        y += b.rowStep;
      }
      sums[4 * i + j] = sum;
    }
  }
}

/** A dense matrix of `width` columns that begins at word `start`. */
export function dense(words: Float32Array, start: number, width: number): Matrix {
  return { words, start, rowStep: width, columnStep: 1 };
}

/** A dense matrix of `width` columns, seen with rows and columns exchanged. */
export function transposed(words: Float32Array, start: number, width: number): Matrix {
  return { words, start, rowStep: 1, columnStep: width };
}
