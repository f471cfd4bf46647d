/**
 * Matrix products on plain arrays: four by four sums at a time, each in order of k and rounded to f32 after every
 * operation, which is what the programs compute bit for bit.
 *
 * @module
 */

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

/** c[m,n] = a[m,k] b[k,n], c's rows dense from `c.start`; k is the column of a and the row of b. */
export function multiply(
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
      for (let i = 0; i < rows; i++) {
        let at = c.start + (row + i) * c.rowStep + column;
        for (let j = 0; j < columns; j++, at++) {
          const sum = sums[4 * i + j];
          if (finish.kind === "bias") c.words[at] = sum + finish.words[column + j];
          else if (finish.kind === "add") c.words[at] = finish.words[at] + sum;
          else if (finish.kind === "accumulate") c.words[at] += sum;
          else c.words[at] = sum;
        }
      }
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
