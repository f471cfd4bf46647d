/**
 * Trials in words: who holds what, why it is so, and what would make it faster.
 *
 * @module
 */
import { CoordinatorError } from "../errors.ts";
import type { ArrangeRequest } from "./schedule_choice.ts";
import { scheduleLines, shortTime } from "../schedule/schedule_text.ts";
import { findReplicas } from "./find_replicas.ts";
import { ganttText } from "../simulator/gantt.ts";
import { number, size, table } from "../amounts.ts";
import { firstWorkers, runTrial, scaledBandwidth, summary, type Trial } from "./trial.ts";

/** A table of the workers with a part, the round's numbers, and a picture in characters. */
export function trialText(trial: Trial): string {
  const { request: { cluster, shape, recompute, run }, timeline, stages, memory, schedule, found } = trial;
  const { seconds, tokensPerSecond, idle, traffic, members } = summary(trial);
  const rows = [...memory.keys()].sort((a, b) => firstStage(trial, a) - firstStage(trial, b)).map((w) => {
    const { id, profile } = cluster.workers[w], { busy, sent, received } = timeline.workers[w];
    return [
      id,
      holds(trial, id),
      `busy ${Math.round(100 * busy / seconds)}%`,
      `${size(Math.round(memory.get(w)!))} of ${size(profile.memory)}`,
      `sends ${size(Math.round(sent))}, receives ${size(Math.round(received))}`,
      profile.deviceName,
    ];
  });
  const many = rows.length > 40 ? [...rows.slice(0, 40), [`and ${rows.length - 40} more`]] : rows;
  const names = cluster.workers.map(({ id }) => id);
  return [
    `${run} on ${cluster.name}: ${shortTime(seconds)} a step, ${number(tokensPerSecond)} tokens/s; ` +
    `${members} of ${cluster.workers.length} workers, ${stages.length} ` +
    `${stages.length === 1 ? "stage" : "stages"}, schedule ${schedule}, ${shape.microbatches} x ` +
    `${shape.batch} sequences of ${shape.sequence} tokens${recompute ? ", recomputing" : ""}`,
    `idle ${Math.round(100 * idle)}%, ${size(Math.round(traffic))} of traffic a step, ` +
    `${found.exact ? "every division was considered" : "found by local search"}`,
    ...table(many).map((line) => `  ${line}`),
    ...(timeline.spans.length > 0 ? ["", ...ganttText(timeline, names).map((line) => `  ${line}`)] : []),
  ].join("\n");
}

function firstStage({ stages, request }: Trial, worker: number): number {
  const at = stages.findIndex((stage) => stage.worker === request.cluster.workers[worker].id);
  return at < 0 ? stages.length : at;
}

function holds({ stages }: Trial, id: string): string {
  const parts = stages.flatMap((stage, s) => {
    if (stage.worker !== id) return [];
    const span = stage.to - stage.from === 1 ? `layer ${stage.from}` : `layers ${stage.from}-${stage.to - 1}`;
    return [
      `stage ${s}: ${
        [stage.embedding ? "embedding" : "", span, stage.head ? "head" : ""].filter(Boolean).join(", ")
      }`,
    ];
  });
  let hosted = 0;
  for (const stage of stages) {
    if (stage.worker !== id) hosted += stage.experts.flat().filter((host) => host === id).length;
  }
  if (hosted > 0) parts.push(`${hosted} experts`);
  return parts.join("; ");
}

/** Why the plan is as it is: which worker sets the pace, who was left out. */
export function reasons(trial: Trial): string[] {
  const { request: { cluster }, timeline, memory, found } = trial,
    { judge } = found,
    seconds = timeline.seconds,
    lines: string[] = [];
  const [slowest] = [...memory.keys()].sort((a, b) => timeline.workers[b].busy - timeline.workers[a].busy);
  const share = timeline.workers[slowest].busy / seconds, id = cluster.workers[slowest].id;
  lines.push(
    share > 0.85
      ? `${id} sets the pace: it computes for ${Math.round(100 * share)}% of the step.`
      : `No worker is busy all the time (${id} most, ${Math.round(100 * share)}%): the rest is the way ` +
        "of the first and last microbatches through the pipeline, and waiting for links.",
  );
  const idle = cluster.workers.flatMap(({ id }, w) => memory.has(w) ? [] : [id]);
  if (idle.length > 0) {
    const some = idle.slice(0, 5).join(", ") + (idle.length > 5 ? ` and ${idle.length - 5} more` : "");
    lines.push(
      found.exact
        ? `${some} ${idle.length === 1 ? "has" : "have"} no part: every division with ` +
          `${idle.length === 1 ? "it" : "them"} is slower.`
        : `${some} ${idle.length === 1 ? "has" : "have"} no part: no quicker division with more workers ` +
          "was found.",
    );
  }
  const hops = found.division.slice(1).map(({ worker }, s) => ({
    from: cluster.workers[found.division[s].worker].id,
    to: cluster.workers[worker].id,
    seconds: judge.activationHop(found.division[s].worker, worker),
  })).sort((a, b) => b.seconds - a.seconds);
  if (hops.length > 0) {
    const [{ from, to, seconds }] = hops;
    lines.push(`The longest way of an activation is ${from} to ${to}: ${shortTime(seconds)}.`);
  }
  lines.push(...scheduleLines(trial.schedule, timeline.seconds, trial.others));
  return lines;
}

/** Changes tried one at a time, those that help first: more microbatches, half-size numbers on links, faster links. */
export function improvements(trial: Trial): string[] {
  const { request, schedule } = trial, { shape, cluster } = request, now = trial.timeline.seconds;
  const pinned = schedule === "skippipe" ? {} : { schedule };
  const tried: { readonly what: string; readonly change: Partial<ArrangeRequest> }[] = [];
  if (shape.batch % 2 === 0) {
    const finer = { ...shape, batch: shape.batch / 2, microbatches: shape.microbatches * 2 };
    tried.push({ what: `microbatches = ${finer.microbatches}`, change: { shape: finer } });
  }
  if (shape.microbatches % 2 === 0) {
    const coarser = { ...shape, batch: shape.batch * 2, microbatches: shape.microbatches / 2 };
    tried.push({ what: `microbatches = ${coarser.microbatches}`, change: { shape: coarser } });
  }
  if (request.codec === undefined) {
    tried.push({ what: '[mesh] codec = ["f32", "bf16"]', change: { codec: ["f32", "bf16"] } });
  }
  if (request.recompute) tried.push({ what: "recompute = false", change: { recompute: false } });
  tried.push({ what: "twice the bandwidth everywhere", change: { cluster: scaledBandwidth(cluster, 2) } });
  if (cluster.workers.length > 1) {
    tried.push({
      what: `half as many workers (the first ${Math.ceil(cluster.workers.length / 2)})`,
      change: { cluster: firstWorkers(cluster, Math.ceil(cluster.workers.length / 2)) },
    });
  }
  const answers = tried.flatMap(({ what, change }) => {
    try {
      const { timeline } = runTrial({ ...request, ...pinned, ...change }, false);
      return [{ what, seconds: timeline.seconds }];
    } catch (error) {
      if (error instanceof CoordinatorError) return []; // what does not fit is no improvement
      throw error;
    }
  });
  return answers.sort((a, b) => a.seconds - b.seconds).map(({ what, seconds }) => {
    return `${what}: ${shortTime(seconds)} a step (${difference(seconds / now)})`;
  });
}

/** How much longer a time is than another, by their ratio. */
function difference(ratio: number): string {
  const percent = Math.round(100 * (ratio - 1));
  if (percent === 0) return "no difference";
  return percent <= 100
    ? `${Math.abs(percent)}% ${percent < 0 ? "less" : "more"}`
    : `${number(ratio)} x as long`;
}

/** Workers up to which replicas are looked for beside a trial: more would take longer than the plan itself. */
const mostForReplicas = 64;

/** What replicas would make of a trial's round: who, with which shares, and how to ask for them; nothing where none fit. */
export function replicaLines(trial: Trial): string[] {
  const { request } = trial, { cluster } = request;
  if (cluster.workers.length < 2 || cluster.workers.length > mostForReplicas) return [];
  const { schedule: _, visits: __, ...rest } = request;
  const found = findReplicas(rest);
  if (found === undefined) return [];
  const verdict = difference(found.seconds / trial.timeline.seconds);
  const shares = found.plan.pipelines.map(({ shares }) => shares[0]);
  return [
    `${found.teams.length} replicas under 1F1B: ${shortTime(found.seconds)} a step (${verdict}); [mesh] ` +
    `replicas = ${found.teams.length}, shares = [${shares.join(", ")}]`,
    ...found.teams.map((team, t) =>
      `  ${team.map((w) => cluster.workers[w].id).join(", ")}: ${shares[t]} of ` +
      `${request.shape.microbatches} microbatches, ${found.plan.pipelines[t].stages.length} ` +
      `${found.plan.pipelines[t].stages.length === 1 ? "stage" : "stages"}`
    ),
  ];
}
