/**
 * How does the planner do on a large cluster: a thousand workers of unequal speed in twelve regions, 40 layers, 8 experts?
 * Wanted: a plan within 10 s and 1 GiB that none of ten thousand random plans that fit beats, and a step of a thousand
 * stages simulated within 10 s.
 *
 * @module
 */
import type { Cluster } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import type { Division, Part } from "../../coordinator/planner/division.ts";
import { findPlan } from "../../coordinator/planner/find_plan.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { parseConfig } from "../../model/config.ts";
import { type RandomStream, randomStream } from "../../model/random.ts";
import type { BenchOptions } from "../harness/bench.ts";

/** One line for the list of benches. */
export const title = "the planner and the simulator on a thousand workers";

const WORKERS = 1_000, LAYERS = 40, EXPERTS = 8, RANDOM = 10_000, SEED = 11;

function model(layers: number, experts: number) {
  return parseConfig({
    hidden_size: 1024,
    intermediate_size: 2048,
    num_hidden_layers: layers,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    vocab_size: 32_000,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: 2 } : {}),
  });
}

function cluster(random: RandomStream): Cluster {
  const spread = (low: number, high: number) => low * (high / low) ** random.uniform();
  const workers = Array.from({ length: WORKERS }, (_, i) => ({
    id: `worker-${i}`,
    profile: {
      flops: spread(0.5e12, 30e12),
      bandwidth: spread(5e10, 1e12),
      memory: spread(2, 24) * 2 ** 30,
      deviceName: "",
    },
    up: Infinity,
    down: Infinity,
  }));
  const region = workers.map(() => random.integer(12));
  const far = Array.from(
    { length: 12 },
    () => Array.from({ length: 12 }, () => ({ latency: spread(5e-3, 0.13), bandwidth: spread(1e7, 1e8) })),
  );
  const near = { latency: 1e-3, bandwidth: 1e9 };
  const link = (a: number, b: number) => {
    const [x, y] = [Math.min(region[a], region[b]), Math.max(region[a], region[b])];
    return x === y ? near : far[x][y];
  };
  return { name: "thousand", workers, link, changes: [] };
}

/** Any division: the number of stages, the workers, the cuts and the places of experts are drawn. */
function anyDivision(random: RandomStream): Division {
  const stages = 1 + random.integer(LAYERS), used = new Set<number>();
  const draw = (): number => {
    const worker = random.integer(WORKERS);
    if (used.has(worker)) return draw();
    used.add(worker);
    return worker;
  };
  const spans = new Array<number>(stages).fill(1);
  for (let l = stages; l < LAYERS; l++) spans[random.integer(stages)]++;
  return spans.map((layers): Part => {
    const worker = draw(), experts = random.integer(2) === 0 ? 0 : random.integer(EXPERTS + 1);
    return { worker, layers, remote: experts > 0 ? [[draw(), experts]] : [] };
  });
}

/** Measures and prints. Answers with false where a promise is not kept. */
export function run({ record, print }: BenchOptions): boolean {
  const random = randomStream(SEED, "thousand workers"), there = cluster(random);
  const request = {
    run: "bench",
    generation: 1,
    config: model(LAYERS, EXPERTS),
    cluster: there,
    shape: { batch: 2, sequence: 512, microbatches: 16 },
    recompute: false,
  };
  const started = performance.now();
  const found = findPlan(request);
  const planning = (performance.now() - started) / 1e3, memory = Deno.memoryUsage().rss / 2 ** 20;

  // A bound below which no simulated step can be: if even the best bound is above the plan, so is every step.
  const ranked: { division: Division; bound: number }[] = [];
  let drawn = 0;
  while (ranked.length < RANDOM && drawn < 100 * RANDOM) {
    drawn++;
    const division = anyDivision(random);
    if (found.judge.shortage(division) === 0) ranked.push({ division, bound: found.judge.bound(division) });
  }
  ranked.sort((a, b) => a.bound - b.bound);
  let best = Infinity;
  for (const { division, bound } of ranked) {
    if (bound >= best) break;
    best = Math.min(best, found.judge.simulate(division).seconds);
  }

  const deep = { ...request, config: model(WORKERS, 0), shape: { ...request.shape, microbatches: 64 } };
  const chain = there.workers.map((_, worker): Part => ({ worker, layers: 1, remote: [] }));
  const judge = new Judge(deep);
  const begun = performance.now();
  judge.simulate(chain);
  const simulating = (performance.now() - begun) / 1e3;

  const answer = {
    planningSeconds: planning,
    residentMiB: memory,
    stages: found.division.length,
    stepSeconds: found.seconds,
    again: simulatePlan(found.plan, there).seconds,
    randomPlans: ranked.length,
    drawn,
    bestRandomSeconds: best,
    simulatingSeconds: simulating,
  };
  record(answer);
  print(
    `${WORKERS} workers, ${LAYERS} layers, ${EXPERTS} experts: planned in ${planning.toFixed(1)} s, ${
      memory.toFixed(0)
    } MiB`,
    `predicted step ${
      found.seconds.toFixed(3)
    } s on ${found.division.length} stages; the best of ${ranked.length} random ` +
      `plans that fit takes ${best.toFixed(3)} s (${(best / found.seconds).toFixed(2)} times as long)`,
    `a step of ${WORKERS} stages and 64 microbatches simulated in ${simulating.toFixed(1)} s`,
  );
  return planning <= 10 && memory <= 1_024 && found.seconds <= best && simulating <= 10;
}
