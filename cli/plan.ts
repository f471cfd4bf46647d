/**
 * `volary plan`: who would hold what.
 *
 * @module
 */
import { dirname, isAbsolute, join, resolve } from "@std/path";
import { openModel } from "../coordinator/model_source.ts";
import { type Candidate, makePlan } from "../coordinator/planner.ts";
import { parseRecipe } from "../coordinator/recipe.ts";
import { planText } from "../coordinator/report.ts";
import { describe } from "../coordinator/run.ts";
import { openTokenizer } from "../coordinator/run_text.ts";
import { DEFAULT_STATE, Owner } from "./client.ts";
import { files } from "./model_folder.ts";
import { readRecipe } from "./run.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "plan",
  summary: "show who would hold what, without training",
  help: `volary plan RECIPE.toml [--workers N] [--state ${DEFAULT_STATE}] [--json]

Shows the plan for the workers that joined, or for N equal workers without any coordinator: stages, experts, parameters and
an estimate of memory.

  --workers N      plan for N equal workers instead
  --state FOLDER   the coordinator's folder
  --json           the whole plan as one JSON object on stdout`,

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json"],
      string: ["workers", "state"],
      positional: ["RECIPE.toml"],
    });
    const [path] = flags.positional, base = resolve(dirname(path));
    const count = flags.number("workers", { min: 1, max: 4_096, integer: true });
    const recipe = parseRecipe(await readRecipe(path), (p) => isAbsolute(p) ? p : join(base, p));
    const { tokenizer } = await openTokenizer(files, recipe);
    const { config } = await openModel(files, recipe, tokenizer);
    const workers = count === undefined
      ? await joined(flags.text("state") ?? DEFAULT_STATE)
      : Array.from({ length: count }, (_, i) => equal(i));
    for (const phase of recipe.phases) {
      const { batch, sequence, microbatches, recompute } = phase;
      const planned = makePlan({
        run: recipe.name,
        generation: 1,
        config,
        workers,
        shape: { batch: batch / microbatches, sequence, microbatches },
        recompute,
        stages: recipe.mesh.stages,
        expertHosts: recipe.mesh.expert_hosts,
      });
      const event = describe(planned, workers, config, "", recipe.name);
      if (flags.has("json")) printJson({ ...event, plan: planned.plan });
      else say(planText(event));
    }
    return 0;
  },
};

type Worker = Candidate & { readonly profile: { readonly deviceName: string } };

async function joined(state: string): Promise<Worker[]> {
  const { workers } = await (await Owner.find(state)).status();
  return workers.map(({ worker, device, flops, memory }) => ({
    id: worker,
    profile: { flops, memory, deviceName: device },
  }));
}

/** One of several workers that differ in name only. */
function equal(i: number): Worker {
  return { id: `worker-${i + 1}`, profile: { flops: 1e10, memory: Infinity, deviceName: "(assumed)" } };
}
