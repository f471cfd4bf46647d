/**
 * `volary plan`: who would hold what.
 *
 * @module
 */
import { dirname, isAbsolute, join, resolve } from "@std/path";
import { openModel } from "../coordinator/recipe/model_source.ts";
import type { KnownLink, Paces } from "../coordinator/planner/paces.ts";
import type { Candidate } from "../coordinator/planner/plan_request.ts";
import { parseRecipe } from "../coordinator/recipe/recipe.ts";
import { isCompute } from "../coordinator/recipe/recipe_phases.ts";
import { quantity, table } from "../coordinator/amounts.ts";
import { planText } from "../coordinator/report/report.ts";
import { describe, planPhase } from "../coordinator/run/phase_plan.ts";
import { openTokenizer } from "../coordinator/recipe/run_text.ts";
import { modelsOf } from "../coordinator/recipe/switches.ts";
import { runTrial, summary } from "../coordinator/planner/trial.ts";
import { improvements, reasons, replicaLines, trialText } from "../coordinator/planner/trial_text.ts";
import { limits } from "../mesh/limits.ts";
import { DEFAULT_STATE, Owner } from "./client.ts";
import { LOOKING, readCluster, readModel, readRecipeOnly, requests, STEP_HELP } from "./cluster_request.ts";
import { files } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import { CommandError, type Flags, printJson, readFlags, say, UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "plan",
  summary: "show who would hold what, without training",
  help: `volary plan RECIPE.toml [--workers N | --measure] [--state ${DEFAULT_STATE}] [--json]
volary plan CLUSTER.toml RECIPE.toml|MODEL [--codec f32] [--batch N] [--sequence N] [--microbatches N] [--json]

Shows the plan for the workers that joined, or for N equal workers without any coordinator: stages,
experts, parameters and an estimate of memory. With a cluster file (see examples/clusters): the plan
with the shortest predicted step, why it is so, and what would make it faster; for a recipe, or for
a step of training a model's folder.

  --workers N      plan for N equal workers instead
  --measure        measure the links between the workers first (a few MiB over each; 2 to 16
                   workers, no run under way)
  --state FOLDER   the coordinator's folder
  --codec NAMES    with a cluster file: what numbers on links are written in: f32, zstd, f16, bf16
                   or int8; of several (f32,bf16) each link takes the quickest. Default: what the
                   recipe says
${STEP_HELP}
  --json           the whole plan as one JSON object on stdout`,
  examples: [
    "plan examples/tiny.toml --workers 3",
    "plan examples/tiny.toml --measure",
    "plan examples/clusters/lab.toml examples/clusters/medium.toml",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json", "measure"],
      string: ["workers", "state", "codec", "batch", "sequence", "microbatches"],
      positional: ["RECIPE.toml", "RECIPE.toml?"],
    });
    if (flags.positional.length === 2) return await planCluster(flags);
    for (const flag of ["codec", "batch", "sequence", "microbatches"]) {
      if (flags.text(flag) !== undefined) throw new UsageError(`--${flag} needs a cluster file.`);
    }
    const [path] = flags.positional, base = resolve(dirname(path));
    const count = flags.number("workers", { min: 1, max: limits.members, integer: true });
    const recipe = parseRecipe(await readRecipeOnly(path), (p) => isAbsolute(p) ? p : join(base, p));
    const { tokenizer } = await openTokenizer(files, recipe);
    const { config } = await openModel(files, recipe, tokenizer);
    if (count !== undefined && flags.has("measure")) {
      throw new UsageError("--workers and --measure exclude each other: equal workers are only assumed.");
    }
    const { workers, paces } = count === undefined
      ? await joined(flags.text("state") ?? DEFAULT_STATE, flags.has("measure"))
      : { workers: Array.from({ length: count }, (_, i) => equal(i)), paces: undefined };
    const models = modelsOf(recipe.phases, config);
    for (const [p, phase] of recipe.phases.entries()) {
      if (!isCompute(phase)) continue;
      const planned = planPhase(recipe, phase, models[p], workers, 1, paces);
      const event = describe(planned, workers, models[p], "", recipe.name);
      if (flags.has("json")) printJson({ ...event, plan: planned.plan });
      else say(planText(event));
    }
    return 0;
  },
};

/** The best plan for a cluster file, explained. */
async function planCluster(flags: Flags): Promise<number> {
  const [clusterPath, recipePath] = flags.positional;
  for (const flag of ["workers", "state", "measure"]) {
    if (flag === "measure" ? flags.has(flag) : flags.text(flag) !== undefined) {
      throw new UsageError(`--${flag} and a cluster file exclude each other: the file says who is there.`);
    }
  }
  const cluster = await readCluster(clusterPath), { recipe, config } = await readModel(recipePath, flags);
  const screen = new Screen();
  for (const request of requests(cluster, recipe, config, flags)) {
    const trial = screen.during(LOOKING, () => runTrial(request, true));
    const why = reasons(trial);
    const faster = screen.during(
      "trying what would change it ...",
      () => [...improvements(trial), ...replicaLines(trial)],
    );
    if (flags.has("json")) {
      printJson({
        event: "planned",
        ...summary(trial),
        exact: trial.found.exact,
        why,
        faster,
        others: trial.others,
        plan: trial.plan,
      });
    } else {
      say(
        [trialText(trial), "", ...why, "", "What would change it:", ...faster.map((line) => `  ${line}`)]
          .join("\n"),
      );
    }
  }
  return 0;
}

type Worker = Candidate & { readonly profile: { readonly deviceName: string } };

/** The workers that joined, and what the coordinator knows of them and their links from real steps. */
async function joined(
  state: string,
  measure: boolean,
): Promise<{ workers: Worker[]; paces: Pick<Paces, "of" | "link"> }> {
  const owner = await Owner.find(state).catch((error) => {
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(`${error.message}; or plan for workers that are only assumed, with --workers N.`);
  });
  if (measure) await owner.measureLinks();
  const { workers, links } = await owner.status();
  if (measure) say(linksText(links));
  return {
    workers: workers.map(({ worker, device, flops, memory, bandwidth, launch, read, lent }) => ({
      id: worker,
      profile: { flops, memory, bandwidth, launch, read, lent, deviceName: device },
    })),
    paces: {
      of: ({ id }) => workers.find(({ worker }) => worker === id)?.shown,
      link: (a, b) => links.find(({ workers }) => workers.includes(a) && workers.includes(b)),
    },
  };
}

function linksText(links: readonly KnownLink[]): string {
  const rows = links.map(({ workers, latency, bandwidth }) => [
    workers.join(" and "),
    latency === undefined ? "-" : `${(1e3 * latency).toFixed(1)} ms one way`,
    bandwidth === undefined ? "-" : quantity(bandwidth, "B/s"),
  ]);
  return table([["link", "latency", "bandwidth"], ...rows]).join("\n");
}

/** One of several workers that differ in name only. */
function equal(i: number): Worker {
  return { id: `worker-${i + 1}`, profile: { flops: 1e10, memory: Infinity, deviceName: "(assumed)" } };
}
