/**
 * A simulated round as a picture: one row a worker, one box a pass. Plain SVG without scripts, readable in light and dark.
 *
 * @module
 */
import { shortTime } from "../schedule/schedule_text.ts";
import type { Span, Timeline } from "./round.ts";

/** What to draw. */
export interface GanttOptions {
  readonly title: string;
  /** Names of the rows, by worker of the timeline. */
  readonly names: readonly string[];
  /** Workers to draw, top to bottom; default: all that did something, in order. */
  readonly rows?: readonly number[];
}

/** Most rows of a picture: beyond it the boxes are too small to tell apart. */
const mostRows = 64;
/** Most boxes: browsers get slow beyond. */
const mostBoxes = 20_000;

const left = 120, right = 16, top = 56, row = 22, height = 16, width = 1_080;

/** Fill and name of each kind of work. */
const kinds: Record<Span["work"], readonly [fill: string, label: string]> = {
  forward: ["#4c8bf5", "forward"],
  backward: ["#34a06c", "backward"],
  "backward-input": ["#34a06c", "gradient of the input"],
  "backward-weight": ["#e0a030", "gradients of the weights"],
  head: ["#9a6ad6", "head"],
  guest: ["#b0b6bf", "experts for others"],
  step: ["#d65f5f", "optimizer"],
};

/** The timeline (simulated with `trace`) as an SVG document. */
export function ganttSvg(timeline: Timeline, { title, names, rows }: GanttOptions): string {
  const active = rows ?? timeline.workers.flatMap(({ busy }, w) => busy > 0 ? [w] : []);
  const shown = active.slice(0, mostRows), place = new Map(shown.map((worker, i) => [worker, i]));
  const seconds = Math.max(timeline.seconds, 1e-9), scale = (width - left - right) / seconds;
  const spans = timeline.spans.filter(({ worker }) => place.has(worker)).slice(0, mostBoxes);
  const bottom = top + row * shown.length, used = new Set(spans.map(({ work }) => work));
  const x = (time: number) => (left + time * scale).toFixed(2);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 34}" ` +
    `font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="${left}" y="18" font-size="14" fill="#202124">${escape(title)}</text>`,
  ];
  let at = left;
  for (const work of Object.keys(kinds) as Span["work"][]) {
    if (!used.has(work)) continue;
    const [fill, label] = kinds[work];
    lines.push(`<rect x="${at}" y="28" width="12" height="12" fill="${fill}"/>`);
    lines.push(`<text x="${at + 16}" y="38" fill="#202124">${label}</text>`);
    at += 34 + 6.2 * label.length;
  }
  shown.forEach((worker, i) => {
    const y = top + i * row, { busy } = timeline.workers[worker];
    lines.push(
      `<text x="${left - 6}" y="${y + 12}" text-anchor="end" ` +
        `fill="#202124">${escape(names[worker].slice(0, 18))}</text>`,
    );
    lines.push(
      `<rect x="${left}" y="${y}" width="${width - left - right}" height="${height}" fill="#f1f3f4">` +
        `<title>${escape(names[worker])}: busy ${Math.round(100 * busy / seconds)} %</title></rect>`,
    );
  });
  for (const { worker, work, stage, microbatch, start, end } of spans) {
    const y = top + place.get(worker)! * row, boxWidth = (end - start) * scale;
    const name = microbatch >= 0 ? ` ${microbatch}, stage ${stage}` : "";
    lines.push(
      `<rect x="${x(start)}" y="${y}" width="${Math.max(boxWidth, 0.2).toFixed(2)}" height="${height}" ` +
        `fill="${kinds[work][0]}" stroke="#ffffff" ` +
        `stroke-width="${boxWidth > 3 ? 0.6 : 0}"><title>${kinds[work][1]}${name}: ` +
        `${start.toPrecision(4)}-${end.toPrecision(4)} s</title></rect>`,
    );
    if (boxWidth > 14 && microbatch >= 0) {
      lines.push(
        `<text x="${(left + (start + end) / 2 * scale).toFixed(2)}" y="${y + 12}" text-anchor="middle" ` +
          `fill="#ffffff">${microbatch}</text>`,
      );
    }
  }
  for (let tick = 0; tick <= 5; tick++) {
    const time = seconds * tick / 5;
    lines.push(
      // The last one must not leave the picture.
      `<text x="${x(time)}" y="${bottom + 14}" text-anchor="${tick < 5 ? "middle" : "end"}" ` +
        `fill="#5f6368">${time === 0 ? "0" : shortTime(time)}</text>`,
    );
  }
  if (active.length > shown.length) {
    lines.push(
      `<text x="${left}" y="${bottom + 29}" fill="#5f6368">and ${active.length - shown.length} more ` +
        "workers</text>",
    );
  }
  lines.push("</svg>");
  return lines.join("\n") + "\n";
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A round as one line of characters a worker, for terminals: time flows to the right. */
export function ganttText(timeline: Timeline, names: readonly string[], columns = 72, most = 24): string[] {
  const marks: Partial<Record<Span["work"], string>> = {
    forward: "F",
    backward: "B",
    "backward-input": "I",
    "backward-weight": "W",
    head: "H",
    guest: "e",
    step: "S",
  };
  const active = timeline.workers.flatMap(({ busy }, w) => busy > 0 ? [w] : []);
  const lines = new Map(active.slice(0, most).map((w) => [w, new Array<string>(columns).fill(".")]));
  for (const { worker, work, start, end } of timeline.spans) {
    const line = lines.get(worker);
    if (line === undefined) continue;
    const from = Math.round(start / timeline.seconds * columns),
      to = Math.round(end / timeline.seconds * columns);
    for (let c = from; c < Math.max(to, from + 1) && c < columns; c++) line[c] = marks[work]!;
  }
  const wide = Math.max(...[...lines.keys()].map((w) => names[w].length));
  const text = [...lines].map(([w, line]) => `${names[w].padEnd(wide)}  ${line.join("")}`);
  return active.length > most ? [...text, `and ${active.length - most} more workers`] : text;
}
