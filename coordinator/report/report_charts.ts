/**
 * Charts as SVG text, for reports: curves over a common axis, and a map of expert loads. Colours are CSS variables of the
 * page around them, so that a chart is right in light and in dark.
 *
 * @module
 */

/** A curve. */
export interface Series {
  readonly name: string;
  /** A CSS class of the page: its colour. */
  readonly tone: "main" | "soft" | "other";
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Dots with a line between them instead of a line alone. */
  readonly dots?: boolean;
}

/** What a chart shows. */
export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Vertical lines with a word: switches. */
  readonly marks: readonly (readonly [x: number, label: string])[];
  /** Show y from this value; from the lowest point unless given. */
  readonly from?: number;
  /** Show y up to this value, and leave out what is above; up to the highest point unless given. */
  readonly to?: number;
  /** Half as wide, to stand beside another. */
  readonly half?: boolean;
}

const full = 720, halfWidth = 350, left = 58, right = 14, top = 24, bottom = 40;

/** Text for XML. */
export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(
    '"',
    "&quot;",
  );
}

/** A number with at most three digits that mean something, and a unit's letter. */
export function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  for (
    const [unit, name] of [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const
  ) {
    if (size >= unit) return `${Number((value / unit).toPrecision(3))}${name}`;
  }
  if (size < 1e-2) return value.toExponential(1).replace(/\.0e/, "e");
  return `${Number(value.toPrecision(3))}`;
}

/** Round steps that cut a span into about `count` parts. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough)!;
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

/** A chart with curves; empty text where no curve has a point. */
export function curveChart({ title, x, y, series, marks, from, to = Infinity, half = false }: Chart): string {
  const width = half ? halfWidth : full, height = half ? 200 : 270;
  const finite = series.map((each) => ({
    ...each,
    points: each.points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b)),
  })).filter(({ points }) => points.length > 0);
  const all = finite.flatMap(({ points }) => points);
  if (all.length === 0) return "";
  const xs = all.map(([a]) => a), ys = all.map(([, b]) => b);
  const highX = max(xs), lowX = Math.min(0, min(xs));
  const lowY = from ?? min(ys), highY = Math.min(max(ys), to), spread = highY - lowY || Math.abs(lowY) || 1;
  const span: [number, number] = [from ?? lowY - 0.05 * spread, highY + 0.05 * spread];
  const px = (value: number) => left + (value - lowX) / (highX - lowX || 1) * (width - left - right);
  const py = (value: number) =>
    height - bottom - (value - span[0]) / (span[1] - span[0]) * (height - top - bottom);
  const parts = [
    ...ticks(span[0], span[1], half ? 4 : 5).map((value) =>
      `<line class="grid" x1="${left}" x2="${width - right}" y1="${n(py(value))}" y2="${n(py(value))}"/>` +
      `<text class="tick" x="${left - 8}" y="${n(py(value) + 3.5)}" text-anchor="end">${short(value)}</text>`
    ),
    ...ticks(lowX, highX, half ? 3 : 7).map((value) =>
      `<text class="tick" x="${n(px(value))}" y="${height - bottom + 16}" ` +
      `text-anchor="middle">${short(value)}</text>`
    ),
    ...marks.map(([value, label]) =>
      `<line class="mark" x1="${n(px(value))}" x2="${n(px(value))}" y1="${top}" y2="${height - bottom}"/>` +
      `<text class="marked" x="${n(px(value) + 4)}" y="${top + 10}">${escape(label)}</text>`
    ),
    ...finite.map(({ points, tone, dots, name }) => {
      const shown = points.filter(([, b]) => b <= span[1]);
      const path = shown.map(([a, b], i) => `${i === 0 ? "M" : "L"}${n(px(a))} ${n(py(b))}`).join("");
      const line = `<path class="line ${tone}" d="${path}"/>`;
      if (!dots) return line;
      return line +
        shown.map(([a, b]) =>
          `<circle class="dot ${tone}" cx="${n(px(a))}" cy="${n(py(b))}" ` +
          `r="${shown.length > 24 ? 2 : 3}"><title>${escape(name)}: ${b.toFixed(4)} at ` +
          `${short(a)}</title></circle>`
        ).join("");
    }),
    ...legend(finite, width),
    `<text class="axis" x="${width - right}" y="${height - 6}" text-anchor="end">${escape(x)}</text>`,
    `<text class="axis" x="${left - 8}" y="12" text-anchor="start">${escape(y)}</text>`,
  ];
  return figure(title, width, height, parts.join(""));
}

function legend(series: readonly Series[], width: number): string[] {
  if (series.length < 2) return [];
  let at = width - right;
  return series.toReversed().map(({ name, tone }) => {
    at -= 6.4 * name.length + 30;
    return `<line class="line ${tone}" x1="${n(at)}" x2="${n(at + 16)}" y1="9" y2="9"/>` +
      `<text class="tick" x="${n(at + 21)}" y="12.5">${escape(name)}</text>`;
  });
}

/** What a map of loads shows: a column for each moment, a row for each expert. */
export interface LoadMap {
  readonly title: string;
  readonly x: string;
  readonly columns: readonly { readonly x: number; readonly load: readonly (readonly number[])[] }[];
}

/** Layers of a map at most: more would be too thin to see, so evenly spaced ones are shown. */
const LAYERS = 12;

/** Loads of experts over time: an even share is pale, a crowded expert is dark, an idle one takes the other colour. */
export function loadChart({ title, x, columns }: LoadMap): string {
  const layers = columns[0]?.load.length ?? 0, experts = columns[0]?.load[0]?.length ?? 0;
  if (layers === 0 || experts === 0) return "";
  const shown = [
    ...new Set(
      Array.from(
        { length: Math.min(LAYERS, layers) },
        (_, i) => Math.floor(i * layers / Math.min(LAYERS, layers)),
      ),
    ),
  ];
  const width = full;
  const row = Math.max(3, Math.min(11, 240 / (shown.length * experts))), gap = 6;
  const tall = top + shown.length * (row * experts + gap) + bottom;
  const first = columns[0].x, last = columns[columns.length - 1].x;
  const edge = (i: number) => left + (i / columns.length) * (width - left - right);
  const parts: string[] = [];
  shown.forEach((layer, l) => {
    const y0 = top + l * (row * experts + gap);
    parts.push(
      `<text class="tick" x="${left - 8}" y="${n(y0 + row * experts / 2 + 3.5)}" ` +
        `text-anchor="end">layer ${layer}</text>`,
    );
    for (let e = 0; e < experts; e++) {
      columns.forEach(({ load, x }, i) => {
        const value = load[layer]?.[e] ?? 0, away = Math.max(-1, Math.min(1, value - 1));
        parts.push(
          `<rect class="${away < 0 ? "idle" : "busy"}" x="${n(edge(i))}" y="${n(y0 + e * row)}" ` +
            `width="${n(edge(i + 1) - edge(i) + 0.3)}" height="${n(row - 0.6)}" ` +
            `fill-opacity="${(0.08 + 0.92 * Math.abs(away)).toFixed(2)}"><title>layer ${layer}, expert ` +
            `${e}: ${value.toFixed(2)} x an even share at ${short(x)}</title></rect>`,
        );
      });
    }
  });
  parts.push(
    `<text class="tick" x="${left}" y="${tall - bottom + 14}">${short(first)}</text>`,
    `<text class="tick" x="${width - right}" y="${tall - bottom + 14}" ` +
      `text-anchor="end">${short(last)}</text>`,
    `<text class="axis" x="${width - right}" y="${tall - 6}" text-anchor="end">${escape(x)}</text>`,
  );
  return figure(title, width, tall, parts.join(""));
}

function figure(title: string, width: number, tall: number, inside: string): string {
  return `<figure><figcaption>${escape(title)}</figcaption><svg viewBox="0 0 ${width} ${n(tall)}" ` +
    `role="img" aria-label="${escape(title)}">${inside}</svg></figure>`;
}

/** A coordinate: a tenth of a pixel is enough. */
function n(value: number): string {
  return `${Math.round(value * 10) / 10}`;
}

function min(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function max(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}
