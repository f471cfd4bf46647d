/**
 * `volary sim`: a cluster that need not exist, on a virtual clock.
 *
 * @module
 */
import { PlanInfeasible } from "../coordinator/errors.ts";
import type { ArrangeRequest } from "../coordinator/planner/schedule_choice.ts";
import { ganttSvg } from "../coordinator/simulator/gantt.ts";
import { number, size, table } from "../coordinator/amounts.ts";
import { scheduleLines, shortTime } from "../coordinator/schedule/schedule_text.ts";
import { type ScheduleName, scheduleNames } from "../coordinator/schedule/schedules.ts";
import {
  firstWorkers,
  runTrial,
  scaledBandwidth,
  summary,
  type TrialSummary,
} from "../coordinator/planner/trial.ts";
import { trialText } from "../coordinator/planner/trial_text.ts";
import { cutBatch, LOOKING, readCluster, readModel, requests } from "./cluster_request.ts";
import { Screen } from "./screen.ts";
import { printJson, readFlags, say, UsageError, type Verb } from "./verb.ts";

/** What can be swept, and the request with one value of it. */
const sweeps: Readonly<Record<string, (request: ArrangeRequest, value: number) => ArrangeRequest>> = {
  workers: (request, count) => {
    const { cluster } = request;
    if (!Number.isInteger(count) || count < 1 || count > cluster.workers.length) {
      throw new UsageError(`The cluster has 1 to ${cluster.workers.length} workers, not ${count}.`);
    }
    return { ...request, cluster: firstWorkers(cluster, count) };
  },
  bandwidth: (request, factor) => ({ ...request, cluster: scaledBandwidth(request.cluster, factor) }),
  microbatches: (request, count) => {
    const { batch, sequence, microbatches } = request.shape;
    if (!Number.isInteger(count) || count < 1 || count > 1_024) {
      throw new UsageError(`A step has 1 to 1024 microbatches, not ${count}.`);
    }
    return { ...request, shape: cutBatch(batch * microbatches, sequence, count) };
  },
};

export const verb: Verb = {
  name: "sim",
  summary: "try a recipe on a cluster that you need not have",
  help:
    `volary sim CLUSTER.toml RECIPE.toml|MODEL [--schedule NAME] [--stages N] [--microbatches N] [--recompute] [--codec f32]
           [--sweep WHAT=A,B,...] [--svg FILE] [--json]

Plans the recipe's first phase for the cluster, as the coordinator would, or a step of training a
model's folder, and runs one training step on a virtual clock: time, idle share, traffic, memory,
and a picture. Cluster files: see examples/clusters.

  --schedule NAME    ${scheduleNames.join(", ")}; without it the recipe's, or the fastest
  --stages N         exactly so many stages (the planner chooses)
  --microbatches N   instead of the recipe's
  --batch N, --sequence N
                     with a model's folder: sequences of a step, tokens of a sequence
  --recompute        compute activations again in the backward pass
  --codec NAMES      numbers on links: f32, zstd, f16, bf16, int8; of several each link takes the
                     quickest
  --sweep WHAT=...   one line for each value: workers=1,2,4 (the first ones), bandwidth=0.5,1,2
                     (times), microbatches=1,2,4
  --svg FILE         the step as a picture (of one step: without --sweep)
  --json             one JSON object a line on stdout`,
  examples: [
    "sim examples/clusters/lab.toml examples/clusters/medium.toml --svg step.svg",
    "sim examples/clusters/lab.toml models/moe --sweep bandwidth=0.5,1,2",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json", "recompute"],
      string: ["schedule", "stages", "microbatches", "batch", "sequence", "codec", "sweep", "svg"],
      positional: ["CLUSTER.toml", "RECIPE.toml or MODEL"],
    });
    const [clusterPath, recipePath] = flags.positional, json = flags.has("json");
    const named = flags.text("schedule") as ScheduleName | undefined;
    if (named !== undefined && !scheduleNames.includes(named)) {
      throw new UsageError(`--schedule takes ${scheduleNames.join(", ")}, not "${named}".`);
    }
    const sweep = readSweep(flags.text("sweep")), svg = flags.text("svg");
    if (sweep !== undefined && svg !== undefined) {
      throw new UsageError("--svg is a picture of one step; --sweep makes several: take one of them.");
    }
    const cluster = await readCluster(clusterPath), { recipe, config } = await readModel(recipePath, flags);
    const [asked] = requests(cluster, recipe, config, flags);
    const request = named === undefined ? asked : { ...asked, schedule: named, visits: undefined };
    const screen = new Screen();
    if (sweep !== undefined) {
      const rows: string[][] = [[
        sweep.what,
        "step",
        "tokens/s",
        "idle",
        "traffic",
        "stages",
        "workers",
        "schedule",
      ]];
      for (const value of sweep.values) {
        const numbers = screen.during(
          `trying ${sweep.what} = ${value} ...`,
          () => attempt(sweeps[sweep.what](request, value)),
        );
        if (numbers instanceof PlanInfeasible) {
          if (json) printJson({ event: "infeasible", [sweep.what]: value, message: numbers.message });
          rows.push([`${value}`, "does not fit"]);
          continue;
        }
        if (json) printJson({ event: "simulated", [sweep.what]: value, ...numbers });
        rows.push([
          `${value}`,
          shortTime(numbers.seconds),
          number(numbers.tokensPerSecond),
          `${Math.round(100 * numbers.idle)}%`,
          size(Math.round(numbers.traffic)),
          `${numbers.stages}`,
          `${numbers.members}`,
          numbers.schedule,
        ]);
      }
      if (!json) say(table(rows).join("\n"));
      return 0;
    }
    const trial = screen.during(LOOKING, () => runTrial(request, true)),
      { schedule } = trial,
      names = cluster.workers.map(({ id }) => id);
    if (svg !== undefined) {
      const title = `${recipe.name} on ${cluster.name}, ${schedule}: ` +
        `${shortTime(trial.timeline.seconds)} a step`;
      await Deno.writeTextFile(svg, ganttSvg(trial.timeline, { title, names }));
    }
    if (json) {
      printJson({
        event: "simulated",
        ...summary(trial),
        others: trial.others,
        exact: trial.found.exact,
        layers: trial.stages.map(({ worker, from, to }) => ({ worker, from, to })),
        workers: [...trial.memory].map(([w, memory]) => ({
          worker: names[w],
          ...trial.timeline.workers[w],
          memory: Math.round(memory),
          lends: cluster.workers[w].profile.memory,
        })),
      });
    } else {say(
        [trialText(trial), ...scheduleLines(schedule, trial.timeline.seconds, trial.others)].join("\n"),
      );}
    return 0;
  },
};

/** The numbers of a trial, or why there is no plan: other values of a sweep may have one. */
function attempt(request: ArrangeRequest): TrialSummary | PlanInfeasible {
  try {
    return summary(runTrial(request, false));
  } catch (error) {
    if (error instanceof PlanInfeasible) return error;
    throw error;
  }
}

function readSweep(text: string | undefined): { what: string; values: number[] } | undefined {
  if (text === undefined) return undefined;
  const [what, list] = text.split("=");
  if (!Object.hasOwn(sweeps, what) || list === undefined) {
    throw new UsageError(
      `--sweep takes ${Object.keys(sweeps).join(", ")} with values, such as workers=1,2,4; not "${text}".`,
    );
  }
  const values = list.split(",").map(Number);
  if (
    list.split(",").some((value) => value.trim() === "") ||
    !values.every((value) => value > 0 && value < Infinity)
  ) {
    throw new UsageError(`--sweep ${what} takes numbers above 0 with commas between, not "${list}".`);
  }
  return { what, values };
}
