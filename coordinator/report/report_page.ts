/**
 * The report as one HTML page that needs nothing else: no script, no font, no network.
 *
 * @module
 */
import { basename } from "@std/path";
import { duration } from "../amounts.ts";
import { scoreNames } from "./report.ts";
import { curveChart, escape, loadChart, type Series, short } from "./report_charts.ts";
import type { ReportData, SwitchPoint } from "./report_data.ts";

const style = `
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #22262b; --quiet: #6d747c; --rule: #e4e4df; --main: #1f5f99;
  --soft: #a9c2d9; --other: #b3541e; --busy: #1f5f99; --idle: #b3541e; --mark: #8a8f95; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #dfe2e5; --quiet: #8f969e; --rule: #2b2f34;
  --main: #7fb2e5; --soft: #3d5a76; --other: #e08d55; --busy: #7fb2e5; --idle: #e08d55; --mark: #767d85; } }
body { margin: 0 auto; max-width: 760px; padding: 40px 20px 72px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
h1 { font-size: 25px; font-weight: 600; letter-spacing: -0.01em; margin: 0 0 4px; }
h2 { font-size: 16px; font-weight: 600; margin: 42px 0 10px; }
p { margin: 8px 0; } .quiet { color: var(--quiet); }
figure { margin: 22px 0; } figcaption { font-weight: 600; font-size: 14px; margin-bottom: 4px; }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--quiet); }
.grid { stroke: var(--rule); } .mark { stroke: var(--mark); stroke-dasharray: 3 3; } svg .marked { fill: var(--ink); }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; } .line.main { stroke: var(--main); }
.line.soft { stroke: var(--soft); stroke-width: 1.1; } .line.other { stroke: var(--other); }
.dot { stroke: var(--paper); } .dot.main { fill: var(--main); } .dot.soft { fill: var(--soft); } .dot.other { fill: var(--other); }
rect.busy { fill: var(--busy); } rect.idle { fill: var(--idle); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 500; color: var(--quiet); padding: 5px 0 5px 14px; border-bottom: 1px solid var(--rule); }
td { text-align: right; padding: 5px 0 5px 14px; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 14px 20px; margin: 24px 0 8px;
  padding: 16px 0; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 20px; }
.pair figure { margin: 8px 0; } td.text, th.text { text-align: left; } td span { font-size: 12px; white-space: nowrap; }
.figures b { display: block; font-size: 25px; font-weight: 500; letter-spacing: -0.01em; } .figures span { color: var(--quiet); font-size: 13px; }
ul { padding-left: 18px; margin: 6px 0; }`;

/** The whole page. `baseline` is the run from scratch that it is compared with. */
export function reportPage(data: ReportData, baseline?: ReportData): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(data.name)} - training report</title><style>${style}</style></head>
<body><h1>${escape(data.name)}</h1>
<p class="quiet">${escape(summary(data))}</p>
${figures(data)}
${charts(data, baseline)}
${switches(data.switches)}
${phases(data)}
${tasks(data)}
${saved(data)}
${workers(data)}
</body></html>
`;
}

function summary({ state, phases, workers, total }: ReportData): string {
  const count = `${workers.length} ${workers.length === 1 ? "worker" : "workers"}`;
  const how = state === "done" ? "Finished" : state === "stopped" ? "Stopped before its end" : "Under way";
  return `${how}: ${phases.length} ${phases.length === 1 ? "phase" : "phases"} of training, ` +
    `${short(total.tokens)} tokens, ${short(total.flops)} operations, ${duration(total.seconds)} of ` +
    `steps on ${count}.`;
}

function figures({ validations, savings, phases }: ReportData): string {
  const last = validations.at(-1),
    item = (value: string, what: string) => `<div><b>${value}</b><span>${what}</span></div>`;
  return `<div class="figures">${
    [
      ...(last?.nll == null ? [] : [item(last.nll.toFixed(3), "validation loss, nats a token")]),
      ...(last?.bitsPerByte == null ? [] : [item(last.bitsPerByte.toFixed(3), "bits per byte")]),
      ...(phases.length === 0 ? [] : [item(short(phases[phases.length - 1].parameters), "parameters")]),
      ...(savings === null ? [] : [
        item(
          `${savings.time.toFixed(2)} x`,
          `time saved, ${savings.against === "measured" ? "measured" : "extrapolated"}`,
        ),
        item(
          `${savings.compute.toFixed(2)} x`,
          `compute saved, ${savings.against === "measured" ? "measured" : "extrapolated"}`,
        ),
      ]),
    ].join("")
  }</div>`;
}

function charts(data: ReportData, baseline: ReportData | undefined): string {
  const marks = (x: (at: SwitchPoint) => number) =>
    data.switches.map((at) => [x(at), at.kind] as [number, string]);
  const losses = (x: (at: { tokens: number; flops: number }) => number): Series[] => [
    { name: "training", tone: "soft", points: data.training.map((at) => [x(at), at.loss]) },
    ...(baseline === undefined ? [] : [{
      name: `${baseline.name} (from scratch)`,
      tone: "other" as const,
      dots: true,
      points: baseline.validations.map((at) => [x(at), at.nll ?? NaN] as const),
    }]),
    {
      name: "validation",
      tone: "main",
      dots: true,
      points: data.validations.map((at) => [x(at), at.nll ?? NaN] as const),
    },
  ];
  const tokens = { x: "tokens of training", marks: marks((at) => at.tokens) };
  const highest = settled(data.training);
  return [
    curveChart({
      title: "Loss against tokens",
      y: "nats a token",
      series: losses((at) => at.tokens),
      to: highest,
      ...tokens,
    }),
    curveChart({
      title: "Loss against compute",
      x: "floating-point operations",
      y: "nats a token",
      series: losses((at) => at.flops),
      to: highest,
      marks: marks((at) => at.flops),
    }),
    loadChart({
      title: "Load of each expert (pale: an even share; blue: more; orange: less)",
      x: "tokens of training",
      columns: data.experts.map(({ tokens, load }) => ({ x: tokens, load })),
    }),
    '<div class="pair">',
    curveChart({
      title: "Learning rate",
      y: "",
      half: true,
      from: 0,
      series: [{
        name: "rate",
        tone: "main",
        points: data.training.map((at) => [at.tokens, at.learningRate]),
      }],
      ...tokens,
    }),
    curveChart({
      title: "Throughput",
      y: "tokens a second",
      half: true,
      from: 0,
      series: [{
        name: "rate",
        tone: "main",
        points: data.training.map((at) => [at.tokens, at.tokensPerSecond]),
      }],
      ...tokens,
    }),
    "</div>",
  ].join("\n");
}

/**
 * The loss up to which curves are shown: that after a twentieth of the tokens, and some more. The first steps of a fresh model,
 * which fall from the logarithm of the vocabulary, would press everything else to the ground.
 */
function settled(training: ReportData["training"]): number {
  const tokens = (training.at(-1)?.tokens ?? 0) / 20;
  const at = training.findIndex((point) => point.tokens >= tokens);
  return at <= 0 ? Infinity : 1.1 * training[at].loss;
}

function switches(all: readonly SwitchPoint[]): string {
  if (all.length === 0) return "";
  const loss = (nll: number | null | undefined) => nll == null ? "not measured" : nll.toFixed(4);
  const rows = all.map((at) => [
    at.kind,
    escape(at.lines.join("; ")),
    `${short(at.parameters.before)} to ${short(at.parameters.after)}`,
    loss(at.before?.nll),
    loss(at.after?.nll),
    at.exact ? "kept" : "changed",
  ]);
  return `<h2>Switches</h2>${
    table(["switch", "what", "parameters", "loss before", "loss after", "function"], rows, [1])
  }`;
}

function phases(data: ReportData): string {
  if (data.phases.length === 0) return "";
  const rows = data.phases.map((phase) => [
    `phase ${phase.phase + 1}`,
    short(phase.parameters),
    short(phase.tokens),
    `${phase.steps}`,
    short(phase.flops),
    duration(phase.seconds),
    phase.seconds > 0 ? short(phase.tokens / phase.seconds) : "-",
    phase.validation?.nll == null ? "-" : phase.validation.nll.toFixed(4),
  ]);
  return `<h2>Phases of training</h2>${
    table(
      ["", "parameters", "tokens", "steps", "operations", "time", "tokens/s", "validation loss"],
      rows,
    )
  }`;
}

function tasks({ tasks }: ReportData): string {
  if (tasks.length === 0) return "";
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = tasks.map(({ phase, file, scores }) => [
    `${escape(basename(file))}<br><span class="quiet">phase ${phase + 1}</span>`,
    `${scores.tasks}`,
    percent(scores.total.chance),
    ...scoreNames.map(([key]) => {
      const { accuracy, standardError, aboveChance } = scores[key];
      const above = `${aboveChance >= 0 ? "+" : "&minus;"}${Math.abs(aboveChance).toFixed(1)} SE`;
      return `${percent(accuracy)}<br><span class="quiet">&plusmn; ${(100 * standardError).toFixed(1)}, ` +
        `${above}</span>`;
    }),
  ]);
  return `<h2>Tasks done right</h2>${
    table(["", "tasks", "chance", ...scoreNames.map(([, by]) => by)], rows)
  }<p class="quiet">The candidate with the lowest score is chosen. &plusmn; is a standard error; SE counts how many the accuracy
lies above chance. Without the prompt a model cannot know the answer: far from chance, the tasks would give it away.</p>`;
}

function saved({ savings }: ReportData): string {
  if (savings === null) return "";
  const rows = [
    [
      "time",
      duration(86_400 * savings.days.recipe),
      duration(86_400 * savings.days.scratch),
      `${savings.time.toFixed(2)} x`,
    ],
    [
      "time x devices x measured speed (operations)",
      short(savings.operations.recipe),
      short(savings.operations.scratch),
      `${savings.compute.toFixed(2)} x`,
    ],
    ["operations of the steps", "", "", `${savings.arithmetic.toFixed(2)} x`],
  ];
  return "<h2>Saved against training from scratch " +
    `(${savings.against})</h2>${table(["", "this run", "from scratch", "factor"], rows)}<ul ` +
    `class="quiet">${savings.notes.map((note) => `<li>${escape(note)}</li>`).join("")}</ul>`;
}

function workers({ workers }: ReportData): string {
  if (workers.length === 0) return "";
  return `<h2>Workers</h2>${
    table(["worker", "device"], workers.map(({ worker, device }) => [escape(worker), escape(device)]), [1])
  }`;
}

/** Cells are HTML already; the columns of `texts` begin at the left, as the first one does. */
function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  texts: readonly number[] = [],
): string {
  const open = (tag: string, column: number) => texts.includes(column) ? `<${tag} class="text">` : `<${tag}>`;
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell, c) => `${open(tag, c)}${cell}</${tag}>`).join("")}</tr>`;
  return "<div " +
    `class="wide"><table><thead>${row(head, "th")}</thead><tbody>${
      rows.map((cells) => row(cells, "td")).join("")
    }</tbody></table></div>`;
}
