/**
 * A run's events put together for a report: curves, switches, phases, and what was saved. Plain data, of which the JSON
 * report consists; report_page.ts draws it.
 *
 * @module
 */
import type { PhaseSummary, Progress, ReportData, TrainPoint, ValidationPoint } from "./report_data.ts";
import type { RunEvent } from "../events.ts";
import { savingsOf } from "./report_savings.ts";

/** Points of a curve, beyond which neighbours are averaged. */
const POINTS = 800;

type Step = Extract<RunEvent, { event: "step" }>;

/** Puts a run's events together. A run that went on from a checkpoint tells steps twice: the later one counts. */
export function reportData(events: readonly RunEvent[], against?: ReportData): ReportData {
  const steps = new Map<string, Step>();
  const plans = new Map<number, Extract<RunEvent, { event: "plan" }>>();
  let plan: Extract<RunEvent, { event: "plan" }> | undefined;
  let end: RunEvent | undefined, estimate: Extract<RunEvent, { event: "estimate" }> | null = null;
  for (const event of events) {
    if (event.event === "plan") plan = event;
    if (event.event === "estimate") estimate ??= event;
    if (event.event === "resumed") {
      // What was done behind the checkpoint was lost, and is done again.
      const { phase, step } = event.position;
      for (const [key, old] of steps) {
        if (old.phase > phase || (old.phase === phase && old.step > step)) steps.delete(key);
      }
    }
    if (event.event === "step") {
      steps.set(`${event.phase} ${event.step}`, event);
      if (plan) plans.set(event.phase, plan);
    }
    end = event;
  }
  const ordered = [...steps.values()].sort((a, b) => a.phase - b.phase || a.step - b.step);
  const at = progressOf(ordered);
  const whole = at(Infinity, Infinity);
  const data = {
    name: plan?.run ?? "",
    state: end?.event === "done" ? "done" : end?.event === "stopped" ? "stopped" : "under way",
    total: whole,
    phases: phasesOf(ordered, plans, validationsOf(events, at)),
    training: averaged(ordered.map((step) => ({
      ...at(step.phase, step.step),
      loss: step.ce ?? NaN,
      learningRate: step.learningRate,
      tokensPerSecond: step.tokensPerSecond,
    }))),
    validations: validationsOf(events, at),
    switches: latest(
      events.flatMap((event) => {
        if (event.event !== "switch") return [];
        const { event: _, phase, ...rest } = event;
        return [{ ...at(phase, Infinity), ...rest, phase }];
      }),
    ),
    experts: latest(
      events.flatMap((event) =>
        event.event === "experts" ? [{ ...at(event.phase, event.step), load: event.load }] : []
      ),
    ),
    tasks: tasksOf(events, at),
    workers: (plan?.workers ?? []).map(({ worker, device }) => ({ worker, device })),
    estimate,
  } as const;
  return { ...data, savings: savingsOf(data, against) };
}

/** A function that says how far training was behind a step of a phase. */
function progressOf(ordered: readonly Step[]): (phase: number, step: number) => Progress {
  const all: Progress[] = [];
  let tokens = 0, flops = 0, seconds = 0;
  for (const step of ordered) {
    tokens += step.tokens;
    flops += step.flops ?? 0;
    seconds += step.seconds;
    all.push({ phase: step.phase, step: step.step, tokens, flops, seconds });
  }
  return (phase, step) => {
    let low = 0, high = all.length;
    while (low < high) {
      const middle = (low + high) >> 1, point = all[middle];
      if (point.phase < phase || (point.phase === phase && point.step <= step)) low = middle + 1;
      else high = middle;
    }
    const last = all[low - 1] as Progress | undefined;
    const { tokens, flops, seconds } = last ?? { tokens: 0, flops: 0, seconds: 0 };
    return {
      phase: Number.isFinite(phase) ? phase : last?.phase ?? 0,
      step: Number.isFinite(step) ? step : last?.phase === phase ? last.step : 0,
      tokens,
      flops,
      seconds,
    };
  };
}

/** Points of the same place once, the latest of them; in order. */
function latest<T extends Progress>(points: readonly T[]): T[] {
  const known = new Map(points.map((point) => [`${point.phase} ${point.step}`, point]));
  return [...known.values()].sort((a, b) => a.phase - b.phase || a.step - b.step);
}

function validationsOf(
  events: readonly RunEvent[],
  at: (phase: number, step: number) => Progress,
): ValidationPoint[] {
  return latest(events.flatMap((event) => {
    if (event.event !== "evaluation") return [];
    const { phase, step, nll, bitsPerByte } = event;
    return [{ ...at(phase, step), step, nll, bitsPerByte }];
  }));
}

/** The last scores of each file in each phase. */
function tasksOf(events: readonly RunEvent[], at: (phase: number, step: number) => Progress) {
  const known = new Map<string, ReportData["tasks"][number]>();
  for (const event of events) {
    if (event.event !== "tasks") continue;
    const { phase, file, scores } = event;
    known.set(`${phase} ${file}`, { ...at(phase, Infinity), phase, file, scores });
  }
  return [...known.values()];
}

function phasesOf(
  ordered: readonly Step[],
  plans: ReadonlyMap<number, Extract<RunEvent, { event: "plan" }>>,
  validations: readonly ValidationPoint[],
): PhaseSummary[] {
  return [...new Set(ordered.map(({ phase }) => phase))].map((phase) => {
    const own = ordered.filter((step) => step.phase === phase), plan = plans.get(phase);
    const sum = (of: (step: Step) => number) => own.reduce((total, step) => total + of(step), 0);
    return {
      phase,
      steps: own.length,
      parameters: plan?.parameters ?? 0,
      workers: plan?.workers.length ?? 0,
      speed: plan?.workers.reduce((total, { flops }) => total + (flops ?? 0), 0) ?? 0,
      tokens: sum(({ tokens }) => tokens),
      flops: sum(({ flops }) => flops ?? 0),
      seconds: sum(({ seconds }) => seconds),
      validation: validations.findLast((each) => each.phase === phase) ?? null,
    };
  });
}

/** At most POINTS points: neighbours of one phase are averaged. */
function averaged(points: readonly TrainPoint[]): TrainPoint[] {
  const width = Math.ceil(points.length / POINTS);
  if (width <= 1) return [...points];
  const groups: TrainPoint[] = [];
  for (let first = 0; first < points.length;) {
    let end = first + 1;
    while (end < points.length && end < first + width && points[end].phase === points[first].phase) end++;
    const group = points.slice(first, end);
    const mean = (of: (point: TrainPoint) => number) =>
      group.reduce((total, point) => total + of(point), 0) / group.length;
    groups.push({
      ...group[group.length - 1],
      loss: mean(({ loss }) => loss),
      learningRate: mean(({ learningRate }) => learningRate),
      tokensPerSecond: mean(({ tokensPerSecond }) => tokensPerSecond),
    });
    first = end;
  }
  return groups;
}
