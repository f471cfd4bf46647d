/**
 * The recipe's last model trained from nothing with as much arithmetic: what `deno task demo --compare` compares with.
 *
 * @module
 */
import type { ReportData } from "../coordinator/report/report_data.ts";
import { configToJson, type ModelConfig } from "../model/config.ts";

/**
 * A recipe for a model like the one that `recipe` (TOML, several phases) ended with, on the same text and mesh: its last phase
 * for as many steps as all the operations in `data`, the run's report, pay for.
 */
export function fromScratch(
  recipe: string,
  data: Pick<ReportData, "name" | "phases" | "total">,
  config: ModelConfig,
): string {
  const last = data.phases[data.phases.length - 1];
  const steps = Math.max(1, Math.round(data.total.flops / (last.flops / last.steps)));
  const model = Object.entries(configToJson(config)).filter(([key]) => key !== "architectures")
    .map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const phase = recipe.slice(recipe.lastIndexOf("[[phase]]"))
    .replace(/steps = \d+/, `steps = ${steps}\nevaluate_every = ${Math.max(1, Math.round(steps / 6))}`)
    .replace(/warmup = \d+/, `warmup = ${Math.ceil(steps / 10)}`);
  const text = recipe.slice(recipe.indexOf("[data]"), recipe.indexOf("[[phase]]"));
  return `name = "${data.name}-scratch"\n[model]\n${model.join("\n")}\nseed = 1\n${text}${phase}`;
}
