/**
 * Makes rows of a new tensor from rows of old ones: a plan that says for each row and column where it comes from and by how
 * much it is scaled, and the loop that carries it out. Arithmetic in f64, rounded to f32 once.
 *
 * @module
 */
import { shortestRun, type SimdScale, simdScale } from "./growth_simd.ts";
import { drawNormal } from "../init.ts";
import type { TensorSource } from "../source.ts";
import { elements, type TensorSpec } from "../tensors.ts";

/** How one tensor comes about. Vectors are matrices of one column. */
export interface RowPlan {
  readonly spec: TensorSpec;
  /** Source tensors that rows are taken from; none for a tensor of zeros. */
  readonly sources: readonly string[];
  /** Columns of a source row. */
  readonly sourceColumns: number;
  /** Source row of each row; absent where each row is itself. */
  readonly rows?: Uint32Array;
  /** Which of `sources` each row is taken from; absent where all are from the first. */
  readonly from?: Uint8Array;
  /** Source column of each column; absent where each column is itself. */
  readonly columns?: Uint32Array;
  /** Factors of columns and of rows. */
  readonly columnScale?: Float64Array;
  readonly rowScale?: Float64Array;
  readonly noise?: PairedNoise;
}

/**
 * Normal noise on the columns that read copies of one unit, less its mean over them: what they add up to stays, because
 * copies carry the same value.
 */
export interface PairedNoise {
  readonly seed: number;
  readonly deviation: number;
  /** What each column's value is multiplied with by its writer; 1 where absent. */
  readonly writeScale?: Float64Array;
}

/** Rows of one source that follow each other in the target as they do in the source. */
interface Run {
  readonly source: string;
  readonly sourceRow: number;
  readonly row: number;
  readonly count: number;
}

/** [rows, columns] of a tensor. */
function matrixShape(shape: readonly number[]): [rows: number, columns: number] {
  return [shape[0] ?? 1, elements(shape.slice(1))];
}

/** Elements `start`.. of a planned tensor, reading no more than the source rows that they need. */
export async function readPlanned(
  source: Pick<TensorSource, "read">,
  plan: RowPlan,
  start: number,
  length: number,
): Promise<Float32Array<ArrayBuffer>> {
  const [rows, columns] = matrixShape(plan.spec.shape);
  if (start < 0 || length < 0 || start + length > rows * columns) {
    throw new RangeError(
      `Elements ${start}..${start + length} lie outside ${plan.spec.name} [${plan.spec.shape}]`,
    );
  }
  if (length === 0) return new Float32Array(0);
  const first = Math.floor(start / columns), last = Math.ceil((start + length) / columns);
  const out = new Float32Array((last - first) * columns);
  for (const run of runs(plan, first, last)) {
    const words = await source.read(
      run.source,
      run.sourceRow * plan.sourceColumns,
      run.count * plan.sourceColumns,
    );
    expand(plan, run, words, out, (run.row - first) * columns);
  }
  const skip = start - first * columns;
  return skip === 0 && out.length === length ? out : out.slice(skip, skip + length);
}

function* runs(plan: RowPlan, first: number, last: number): Generator<Run> {
  if (plan.sources.length === 0) return;
  const sourceOf = (row: number) => plan.from?.[row] ?? 0;
  const rowOf = (row: number) => plan.rows?.[row] ?? row;
  let row = first;
  while (row < last) {
    let end = row + 1;
    while (end < last && sourceOf(end) === sourceOf(row) && rowOf(end) === rowOf(end - 1) + 1) end++;
    yield { source: plan.sources[sourceOf(row)], sourceRow: rowOf(row), row, count: end - row };
    row = end;
  }
}

function expand(plan: RowPlan, run: Run, words: Float32Array, out: Float32Array, at: number): void {
  const columns = matrixShape(plan.spec.shape)[1];
  const segments = columnSegments(plan, columns), { rowScale, noise } = plan;
  const plain = segments.every(({ scale }) => scale === 1) && rowScale === undefined;
  const simd = plain || columns < segments.length * shortestRun ? undefined : simdScale();
  const room = simd === undefined ? 0 : simd.words.length >> 1;
  if (simd === undefined || Math.max(columns, plan.sourceColumns) > room) {
    expandPlainly(plan, segments, run, words, out, at);
  } else {
    const rows = Math.floor(room / Math.max(columns, plan.sourceColumns));
    for (let first = 0; first < run.count; first += rows) {
      expandFast(simd, plan, segments, run, first, Math.min(rows, run.count - first), words, out, at);
    }
  }
  if (noise !== undefined) addNoise(plan, noise, run, out.subarray(at, at + run.count * columns));
}

function expandPlainly(
  { sourceColumns: width, rowScale, spec }: RowPlan,
  segments: readonly Segment[],
  run: Run,
  words: Float32Array,
  out: Float32Array,
  at: number,
): void {
  const columns = matrixShape(spec.shape)[1];
  for (let i = 0; i < run.count; i++) {
    const from = i * width, to = at + i * columns, factor = rowScale?.[run.row + i] ?? 1;
    for (const { column, source, length, scale } of segments) {
      if (scale === 1 && factor === 1) {
        out.set(words.subarray(from + source, from + source + length), to + column);
      } else scaleInto(out, to + column, words, from + source, length, scale, factor);
    }
  }
}

/** The same for some rows of a run in the memory of `simd`: sources in its first half, results in its second. */
function expandFast(
  simd: SimdScale,
  { sourceColumns: width, rowScale, spec }: RowPlan,
  segments: readonly Segment[],
  run: Run,
  first: number,
  rows: number,
  words: Float32Array,
  out: Float32Array,
  at: number,
): void {
  const columns = matrixShape(spec.shape)[1], memory = simd.words, results = memory.length >> 1;
  memory.set(words.subarray(first * width, (first + rows) * width));
  for (let i = 0; i < rows; i++) {
    const factor = rowScale?.[run.row + first + i] ?? 1;
    for (const { column, source, length, scale } of segments) {
      const from = i * width + source, to = results + i * columns + column, quads = length >> 2;
      simd.scale(4 * from, 4 * to, quads, scale, factor);
      for (let j = 4 * quads; j < length; j++) memory[to + j] = memory[from + j] * scale * factor;
    }
  }
  out.set(memory.subarray(results, results + rows * columns), at + first * columns);
}

/** Columns that follow each other in the target as they do in the source, with one factor. */
interface Segment {
  readonly column: number;
  readonly source: number;
  readonly length: number;
  readonly scale: number;
}

function columnSegments({ columns: map, columnScale }: RowPlan, columns: number): Segment[] {
  if (map === undefined && columnScale === undefined) {
    return [{ column: 0, source: 0, length: columns, scale: 1 }];
  }
  const unitOf = (column: number) => map?.[column] ?? column,
    scaleOf = (column: number) => columnScale?.[column] ?? 1;
  const segments: Segment[] = [];
  for (let column = 0; column < columns;) {
    const source = unitOf(column), scale = scaleOf(column);
    let length = 1;
    while (
      column + length < columns && unitOf(column + length) === source + length &&
      scaleOf(column + length) === scale
    ) length++;
    segments.push({ column, source, length, scale });
    column += length;
  }
  return segments;
}

/** A function of its own with plain numbers, which compiles to about a nanosecond a value. */
function scaleInto(
  out: Float32Array,
  to: number,
  words: Float32Array,
  from: number,
  length: number,
  scale: number,
  factor: number,
): void {
  for (let j = 0; j < length; j++) out[to + j] = words[from + j] * scale * factor;
}

function addNoise(
  plan: RowPlan,
  { seed, deviation, writeScale }: PairedNoise,
  run: Run,
  out: Float32Array,
): void {
  const columns = matrixShape(plan.spec.shape)[1];
  const column = plan.columns ?? Uint32Array.from({ length: columns }, (_, j) => j);
  const copies = new Float64Array(plan.sourceColumns);
  for (const unit of column) copies[unit]++;
  const mean = new Float64Array(plan.sourceColumns);
  const drawn = drawNormal(seed, `paired noise ${plan.spec.name}`, run.row * columns, out.length, deviation);
  for (let at = 0; at < out.length; at += columns) {
    mean.fill(0);
    for (let j = 0; j < columns; j++) mean[column[j]] += drawn[at + j] / copies[column[j]];
    for (let j = 0; j < columns; j++) {
      if (copies[column[j]] > 1) {
        out[at + j] += (drawn[at + j] - mean[column[j]]) / (writeScale?.[j] ?? 1) *
          (plan.rowScale?.[run.row + at / columns] ?? 1);
      }
    }
  }
}
