/** What the simulator knows of a ladder residual: attention of one layer takes no time while rows of another are away. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { uniformCluster } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import { makePlan } from "../../coordinator/planner/planner.ts";
import { Predictor } from "../../coordinator/cost/predict.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { parseConfig } from "../../model/config.ts";

const layers = 4;
const model = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: layers,
  num_attention_heads: 4,
  vocab_size: 160,
  num_local_experts: 4,
  num_experts_per_tok: 2,
};
const shape = { batch: 2, sequence: 64, microbatches: 1 };

/** A round of one stage and one host of half the experts, `latency` seconds apart. */
function round(ladder: boolean, latency: number) {
  const config = parseConfig({ ...model, ladder_residual: ladder });
  const workers = ["a", "b"].map((id) => ({
    id,
    profile: { flops: 1e9, bandwidth: 1e9, memory: 1e9, deviceName: id },
  }));
  const cluster = uniformCluster("two", workers, { latency, bandwidth: 1e9 });
  const recompute = false, setting = { config, shape, recompute, cluster, codec: "f32" as const };
  const { plan } = makePlan({
    run: "r",
    generation: 1,
    config,
    workers,
    shape,
    recompute,
    stages: 1,
    expertHosts: 1,
  });
  const judge = new Judge(setting), remote = [[1, 2]] as const;
  return {
    seconds: simulatePlan(plan, cluster, { trace: true }),
    times: new Predictor(setting).seconds(0),
    bound: judge.bound([{ worker: 0, layers, remote }]),
    plan,
  };
}

Deno.test("with far hosts a ladder's round is shorter by the attention of all layers but one", () => {
  const plain = round(false, 1), ladder = round(true, 1);
  assertEquals(ladder.plan.operations, plain.plan.operations);
  const { forward, input, weight } = ladder.times.hidden;
  assert(forward > 0 && round(false, 1).times.hidden.forward === 0);
  // A sum of its own for each layer is what it takes more.
  const more = ladder.times.after.forward - plain.times.after.forward;
  const saved = (layers - 1) * (forward + input + weight) - layers * more;
  assertAlmostEquals(plain.seconds.seconds - ladder.seconds.seconds, saved, 1e-9);
  const busy = (of: typeof plain) => of.seconds.workers[0].busy;
  assertAlmostEquals(busy(ladder), busy(plain) + layers * more, 1e-9, "nothing is left out");
  assert(ladder.bound <= ladder.seconds.seconds && ladder.bound > 2 * layers, `${ladder.bound}`);
});

Deno.test("next door a ladder hides nothing that is worth more than its sums", () => {
  const plain = round(false, 0), ladder = round(true, 0);
  assert(ladder.seconds.seconds > 0.7 * plain.seconds.seconds);
});
