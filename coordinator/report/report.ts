/**
 * A run's events as text for people: who holds what, a calm progress line, validations, checkpoints and the end. Only
 * text comes out; where it goes is its user's business.
 *
 * @module
 */
import { duration, number, quantity, seconds, size, table } from "../amounts.ts";
import type { HeldBy, LayerSpan, RunEvent } from "../events.ts";
import { scheduleLines } from "../schedule/schedule_text.ts";

/** What to print for an event. */
export interface Printed {
  /** Stays on the screen; may have several lines. */
  readonly text?: string;
  /** Replaces the line at the bottom of a terminal. */
  readonly live?: string;
}

/** Turns events into text. */
export class Report {
  #shown = 0;

  /**
   * @param now milliseconds, to print at most one progress line each `interval` where there is no terminal
   * @param live whether a line can be replaced: then every step is shown
   */
  constructor(
    private readonly now: () => number,
    private readonly live: boolean,
    private readonly interval = 5_000,
  ) {}

  /** The text of an event; nothing for some. */
  print(event: RunEvent): Printed {
    switch (event.event) {
      case "plan":
        return { text: planText(event) };
      case "barrier":
        return event.stage === "ready" ? {} : { live: `${event.stage} ...` };
      case "estimate":
        return { text: estimateText(event) };
      case "prepare":
      case "unkept":
        return { text: event.text };
      case "switch":
        return { text: switchText(event) };
      case "experts":
        return {};
      case "resumed":
        return { text: `Going on from ${event.from} (step ${event.position.step}).` };
      case "replicas":
        return {
          text:
            `The checkpoint is of ${event.saved} replicas, the plan has ${event.now}: their outer momentum begins ` +
            "anew, and all go on with the moments of each tensor's owner.",
        };
      case "step":
        return this.#step(event);
      case "evaluation":
        return { text: evaluationText(event) };
      case "tasks":
        return { text: tasksText(event) };
      case "checkpoint":
        return { text: `checkpoint  ${event.path}  (${seconds(event.seconds)})` };
      case "pace":
        return {
          text: `a step took ${seconds(event.measured)} in the median of ${event.steps}, predicted ` +
            seconds(event.predicted),
        };
      case "done":
        return { text: `Done in ${duration(event.seconds)}. The model is in ${event.path}` };
      case "unrecorded":
        return {
          text:
            `The run's lines and its report in ${event.folder} could not be written whole: ${event.reason}`,
        };
      case "bug":
        return { text: `This is a fault of the program itself:\n${event.stack}` };
      case "stopped":
        return { text: stoppedText(event) };
    }
  }

  #step(event: Extract<RunEvent, { event: "step" }>): Printed {
    const line = stepText(event);
    if (!event.committed) {
      const where = event.broken?.length
        ? `: ${event.broken[0]}${event.broken.length > 1 ? ", ..." : ""}`
        : "";
      return { text: `step ${event.step} was skipped, its gradient is not finite${where}` };
    }
    if (this.live) return event.step === event.steps ? { text: line } : { live: line };
    const now = this.now();
    if (event.step > 1 && event.step < event.steps && now - this.#shown < this.interval) return {};
    this.#shown = now;
    return { text: line };
  }
}

function stepText(event: Extract<RunEvent, { event: "step" }>): string {
  const width = String(event.steps).length;
  const busy = event.workers.filter((w) => w.busy > 0 || w.waited > 0)
    .map((w) => `${Math.round(100 * w.busy)}%`.padStart(3)).join(" ");
  const bytes = event.workers.reduce((sum, w) => sum + w.sent, 0);
  return [
    `step ${String(event.step).padStart(width)}/${event.steps}`,
    `loss ${(event.loss ?? NaN).toFixed(4)}`,
    `${number(event.tokensPerSecond).padStart(6)} tokens/s`,
    `busy ${busy}`,
    ...(bytes > 0 ? [`${size(bytes)}/step`] : []),
    `${duration(event.secondsLeft)} left`,
  ].join("  ");
}

function estimateText(
  { phases, tokens, epochs, seconds, disk, free }: Extract<RunEvent, { event: "estimate" }>,
): string {
  const computing = phases.filter(({ steps }) => steps > 0);
  if (computing.length === 0) return "";
  const rows = computing.map((phase) => [
    `phase ${phase.phase + 1}`,
    `${number(phase.parameters)} parameters`,
    `${number(phase.tokens)} tokens`,
    quantity(phase.flops, "FLOP"),
    `about ${duration(phase.seconds)}`,
    `${size(phase.memory)} on the fullest worker`,
    `${size(phase.disk)} of disk`,
  ]);
  const room = free === null ? "" : ` of ${size(free)} that are free`;
  return [
    `About ${duration(seconds)} of steps and ${size(disk)} of disk${room}; ${number(tokens)} tokens of ` +
    `training read the text ${number(epochs)} times.`,
    ...(computing.length > 1 ? table(rows).map((line) => `  ${line}`) : []),
  ].join("\n");
}

function switchText(event: Extract<RunEvent, { event: "switch" }>): string {
  const { kind, lines, parameters, before, after, exact } = event;
  const loss = before?.nll == null || after?.nll == null
    ? "its loss was not measured"
    : `validation nll ${before.nll.toFixed(4)} -> ${after.nll.toFixed(4)}`;
  return `${kind}  ${lines.join("; ")}\n  ${number(parameters.before)} -> ${number(parameters.after)} ` +
    `parameters (${number(parameters.active)} active), ${loss}${exact ? " (the function stays)" : ""}`;
}

function evaluationText(event: Extract<RunEvent, { event: "evaluation" }>): string {
  const nll = (event.nll ?? NaN).toFixed(4), bits = (event.bitsPerByte ?? NaN).toFixed(3);
  const when = event.step === 0 ? "" : ` after step ${event.step}`;
  return `validation${when}  nll ${nll}  ${bits} bits per byte  (${number(event.tokens)} tokens)`;
}

function tasksText({ file, scores }: Extract<RunEvent, { event: "tasks" }>): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = scoreNames.map(([key, by]) => {
    const { accuracy, standardError, aboveChance } = scores[key];
    const above = `${aboveChance >= 0 ? "+" : ""}${aboveChance.toFixed(1)}`;
    return [`  ${by}`, percent(accuracy), `+- ${percent(standardError)}`, `${above} standard errors`];
  });
  const chance = percent(scores.total.chance);
  return [`tasks  ${file}: ${scores.tasks}, right by chance ${chance}`, ...table(rows)].join("\n");
}

/** Scores of choose tasks and what they go by, in the order in which they are shown. */
export const scoreNames = [
  ["total", "loss"],
  ["tokens", "loss a token"],
  ["characters", "loss a character"],
  ["relative", "loss less that without prompt"],
  ["promptless", "without prompt"],
] as const;

function stoppedText(event: Extract<RunEvent, { event: "stopped" }>): string {
  const lines = [event.why === "asked" ? event.reason : `The run stopped: ${event.reason}`];
  if (event.path === null) lines.push("There is no checkpoint yet; start it again.");
  else {
    lines.push(`The last checkpoint is ${event.path}`);
    lines.push(`Go on with:  ${event.resume}`);
  }
  return lines.join("\n");
}

/** Who holds what, as a table. */
export function planText(event: Extract<RunEvent, { event: "plan" }>): string {
  const rows = event.workers.map((held) => [
    held.worker,
    ...(held.replica === undefined ? [] : [`replica ${held.replica}`]),
    held.layers.length > 0 ? held.layers.map(span).join("; ") : "no layers",
    expertsText(held),
    `${number(held.parameters)} parameters`,
    size(held.bytes),
    held.device,
  ]);
  const { batch, sequence, microbatches } = event.shape, count = event.workers.length;
  const predicted = event.predicted === undefined ? "" : `, ${seconds(event.predicted)} predicted for each`;
  return [
    `${event.run}: ${number(event.parameters)} parameters on ${count} ${
      count === 1 ? "worker" : "workers"
    }, ` +
    `${microbatches} x ${batch} sequences of ${sequence} tokens a step` +
    `${event.recompute ? ", recomputing" : ""}${predicted}`,
    ...table(rows).map((line) => `  ${line}`),
    ...(event.idle.length > 0 ? [`  without a part: ${event.idle.join(", ")}`] : []),
    ...scheduleLines(event.schedule, event.predicted ?? 0, event.others).map((line) => `  ${line}`),
  ].join("\n");
}

function span(layers: LayerSpan): string {
  const last = layers.to - 1;
  const which = last === layers.from ? `layer ${last}` : `layers ${layers.from}-${last}`;
  return [
    ...(layers.embedding ? ["embedding"] : []),
    ...(last < layers.from ? [] : [which]),
    ...(layers.head ? ["head"] : []),
  ].join(", ");
}

/** "experts 0-3 of layers 0-1; 0-7 of layer 2": layers with the same experts together. */
function expertsText({ experts }: HeldBy): string {
  const groups = new Map<string, number[]>();
  for (const { layer, experts: own } of experts) {
    const key = ranges(own);
    groups.set(key, [...groups.get(key) ?? [], layer]);
  }
  const of = [...groups].map(([own, layers]) =>
    `${own} of ${layers.length > 1 ? "layers" : "layer"} ${ranges(layers)}`
  );
  return of.length > 0 ? `experts ${of.join("; ")}` : "";
}

/** Increasing numbers as "0-3, 5". */
function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length;) {
    let j = i;
    while (numbers[j + 1] === numbers[j] + 1) j++;
    parts.push(i === j ? `${numbers[i]}` : `${numbers[i]}-${numbers[j]}`);
    i = j + 1;
  }
  return parts.join(", ");
}
