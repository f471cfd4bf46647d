/** Whatever the planner makes of a cluster trains the weights of one worker, bit for bit. */
import { assert, assertEquals } from "@std/assert";
import type { Cluster } from "../../coordinator/cost/cluster.ts";
import { CoordinatorError } from "../../coordinator/errors.ts";
import { planOf } from "../../coordinator/planner/find_plan.ts";
import { findReplicas } from "../../coordinator/planner/find_replicas.ts";
import { Generation } from "../../coordinator/run/generation.ts";
import { owners, words } from "../../coordinator/cost/holdings.ts";
import { parameterSource } from "../../coordinator/run/parameters.ts";
import { type PhaseData, runPhase } from "../../coordinator/run/phase.ts";
import { makePlan } from "../../coordinator/planner/planner.ts";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import type { TrainPhase } from "../../coordinator/recipe/recipe_phases.ts";
import { arrangeBest } from "../../coordinator/planner/schedule_choice.ts";
import { scheduleNames } from "../../coordinator/schedule/schedules.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import type { Plan } from "../../mesh/plan.ts";
import { type ModelConfig, parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { type RandomStream, randomStream } from "../../model/random.ts";
import { everyDivision, randomCluster } from "./every_plan.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

const steps = 2, sequence = 12, microbatches = 6;

function model(random: RandomStream): ModelConfig {
  const experts = random.integer(2) === 0 ? 0 : 3;
  return parseConfig({
    hidden_size: 16,
    intermediate_size: 12,
    num_hidden_layers: 2 + random.integer(4),
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 4,
    vocab_size: 40,
    tie_word_embeddings: random.integer(2) === 0,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: 2 } : {}),
  });
}

/** Tokens that differ from step to step. */
const data = (config: ModelConfig): PhaseData => ({
  validation: [],
  bytesPerToken: 1,
  train: (step) => {
    const ids = Uint32Array.from(
      { length: microbatches * sequence },
      (_, i) => (7 * i + 5 * step + i * i) % config.vocabSize,
    );
    const labels = ids.map((id) => (3 * id + 1) % config.vocabSize);
    return {
      ids: new Uint8Array(ids.buffer),
      labels: new Uint8Array(labels.buffer),
      validLabels: labels.length,
    };
  },
});

/** Trains a plan's workers and answers with losses, norms, weights and moments. */
async function train(config: ModelConfig, plan: Plan) {
  const count = Math.max(...Object.keys(plan.operations).map((id) => Number(id.slice(1)))) + 1;
  const mesh = await smallMesh("reference", count), clock = denoRuntime();
  try {
    const tensors = freshModel(config, 1), table = owners(config, plan);
    const generation = new Generation(
      plan,
      mesh.coordinator.members,
      parameterSource(tensors, undefined),
      clock,
    );
    await generation.begin(false, () => {});
    const recipe = parseRecipe(smallRecipe({ steps, microbatches, experts: 0 }), (path) => `/${path}`);
    const phase = { ...recipe.phases[0] as TrainPhase, checkpoint_every: steps, evaluate_every: 0 };
    const told: unknown[] = [], kept: Record<string, Uint8Array> = {};
    await runPhase({
      clock,
      config,
      phase,
      table,
      generation,
      data: data(config),
      from: { phase: 0, step: 0, committed: 0, moments: 0 },
      checkpoint: async () => {
        for (const spec of table) {
          for (const part of ["weight", "m", "v"] as const) {
            kept[`${spec.name} ${part}`] = await generation.pull(spec.owner, spec.name, part, 0, words(spec));
          }
        }
      },
      tell: (event) => {
        if (event.event === "step") told.push([event.loss, event.norm]);
      },
      signal: new AbortController().signal,
    });
    generation.end("the test is over");
    return { told, kept };
  } finally {
    await mesh.close();
  }
}

/** One worker that accumulates the same shares. */
function alone(config: ModelConfig, plan: Plan): Plan {
  const profile = { flops: 1e9, bandwidth: 1e9, memory: 2 ** 32, deviceName: "" };
  return makePlan({
    run: plan.run,
    generation: plan.generation,
    config,
    workers: [{ id: "w0", profile }],
    shape: plan.shape,
    recompute: plan.recompute,
    shares: plan.pipelines.flatMap(({ shares }) => shares),
    replicas: 1,
  }).plan;
}

/** What the planner finds under some schedule or in replicas, or any division at all. */
function planned(
  random: RandomStream,
  config: ModelConfig,
  cluster: Cluster,
): [what: string, plan: Plan] | undefined {
  const request = {
    run: "any",
    generation: 1 + random.integer(1_000),
    config,
    cluster,
    shape: { batch: 1, sequence, microbatches },
    recompute: random.integer(3) === 0,
    codec: "zstd" as const,
  };
  const what = kinds[random.integer(kinds.length)];
  if (what === "any") {
    const all = everyDivision(cluster.workers.length, config.layers, config.experts)
      .filter((division) => config.experts === 0 || division.some(({ remote }) => remote.length > 0));
    return all.length === 0 ? undefined : [what, planOf(request, all[random.integer(all.length)])];
  }
  try {
    if (what === "replicas") {
      const found = findReplicas(request);
      return found && [what, found.plan];
    }
    const schedule = scheduleNames.find((name) => name === what)!;
    // As many stages as there may be: a single one proves little.
    const stages = Math.min(config.layers, cluster.workers.length);
    return [
      what,
      arrangeBest({ ...request, schedule, ...(random.integer(2) === 0 ? { stages } : {}) }).best.plan,
    ];
  } catch (error) {
    if (error instanceof CoordinatorError) return undefined; // more stages on each worker than there are layers
    throw error;
  }
}

const kinds = ["any", "replicas", ...scheduleNames];

Deno.test("random plans of the planner, all schedules and unequal replicas: the weights of one worker, bit for bit", async () => {
  const random = randomStream(9, "any plan"), seen = new Set<string>();
  let trained = 0, most = 0, unequal = 0, hosted = 0;
  while (trained < 20) {
    const config = model(random), cluster = randomCluster(random, 2 + random.integer(3), 5e5, 1_000);
    const found = planned(random, config, cluster);
    if (found === undefined) continue;
    const [what, plan] = found,
      one = await train(config, alone(config, plan)),
      spread = await train(config, plan);
    assertEquals(spread.told, one.told, what);
    assertEquals(spread.kept, one.kept, `${what}: ${JSON.stringify(plan.pipelines)}`);
    trained++;
    seen.add(what);
    most = Math.max(most, Object.keys(plan.operations).length);
    if (new Set(plan.pipelines.map(({ shares }) => shares[0])).size > 1) unequal++;
    if (
      plan.pipelines.some(({ stages }) => stages.some((s) => s.experts.flat().some((w) => w !== s.worker)))
    ) {
      hosted++;
    }
  }
  assertEquals(seen, new Set(kinds));
  assert(most >= 4 && unequal > 0 && hosted > 0, `${most} ${unequal} ${hosted}`);
});
