/** The planner's formulas against what model/ really does on a device. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  embeddingCosts,
  expertCosts,
  gatherCost,
  headCosts,
  layerCosts,
  secondsOf,
  stepCosts,
} from "../../coordinator/cost/cost_model.ts";
import { uniformCluster } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import type { Division } from "../../coordinator/planner/division.ts";
import { type Device, referenceDevice } from "../../kernels/mod.ts";
import { addCost } from "../../kernels/costs.ts";
import type { Slice } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { loadFresh, Witness } from "../on_device.ts";
import { LocalCompute } from "../../worker/local_compute.ts";

const dense = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 160,
  attention_bias: true,
};
const moe = { ...dense, num_local_experts: 4, num_experts_per_tok: 2 };
const sharing = { ...moe, shared_expert_intermediate_size: 48 };
const ladder = { ...sharing, ladder_residual: true };
const shape = { batch: 2, sequence: 40, microbatches: 3 };
const T = shape.batch * shape.sequence;

/** A device that adds up what its kernels cost; `take` answers with it and begins anew. */
function recorder() {
  let flops = 0, bytes = 0;
  const device = new Witness(referenceDevice(), (kernel, values) => {
    const cost = kernel.cost(values);
    flops += cost.flops;
    bytes += cost.bytes;
  });
  const take = () => {
    const sum = { flops, bytes };
    flops = bytes = 0;
    return sum;
  };
  return { device, take };
}

function slice(model: typeof dense, recompute: boolean): Slice {
  const config = parseConfig(model);
  return {
    run: "test",
    generation: 1,
    model,
    shape,
    stages: [{
      worker: "me",
      from: 0,
      to: config.layers,
      embedding: true,
      head: true,
      experts: Array.from({ length: config.layers }, () => new Array<string>(config.experts).fill("me")),
    }],
    recompute,
    self: "me",
    operations: { train: [], evaluate: [] },
  };
}

async function open(device: Device, given: Slice): Promise<LocalCompute> {
  const compute = new LocalCompute({
    device,
    exchanger: () => Promise.reject(new Error("nobody is asked")),
    now: () => 0,
    memory: 1e9,
  });
  await loadFresh(compute, given);
  return compute;
}

function forward(compute: LocalCompute, microbatch: number) {
  const ids = Uint32Array.from({ length: T }, (_, i) => (i + 7 * microbatch) % dense.vocab_size); // all different
  return compute.forward({ stage: 0, microbatch, mode: "train", ids, labels: ids, validLabels: 3 * T });
}

/** Sums of costs, both kinds. */
function sum(costs: readonly { flops: number; bytes: number }[]) {
  return costs.reduce((a, b) => ({ flops: a.flops + b.flops, bytes: a.bytes + b.bytes }), {
    flops: 0,
    bytes: 0,
  });
}

for (
  const [kind, model] of [["dense", dense], ["mixture of experts", moe], [
    "a shared expert",
    sharing,
  ], ["a ladder residual", ladder]] as const
) {
  for (const recompute of [false, true]) {
    const what = `${kind}${recompute ? ", recomputing" : ""}`;
    Deno.test(`${what}: the cost model adds up the kernels that a stage runs`, async () => {
      const { device, take } = recorder(),
        config = parseConfig(model),
        { layers, experts: E } = config;
      const compute = await open(device, slice(model, recompute));
      const { before, after } = layerCosts(config, shape), own = expertCosts(config, T, E);
      const gathered = E > 0 ? [gatherCost(config, T, E)] : [];
      const layer = [...before.forward, ...gathered, ...own.forward, ...after.forward];
      const times = (costs: typeof layer) => Array.from({ length: layers }, () => costs).flat();

      take();
      await forward(compute, 0);
      const head = headCosts(config, T, true), embedding = embeddingCosts(config, T);
      assertEquals(take(), sum([...embedding.forward, ...times(layer), ...head.forward]));

      await compute.backward(0, 0);
      const backward = [
        ...before.input,
        ...before.weight,
        ...own.input,
        ...own.weight,
        ...after.input,
        ...after.weight,
      ];
      // What the first layer of a ladder is computed again from has joined nothing.
      const joined = config.ladderResidual
        ? addCost({ length: T * config.hiddenSize })
        : { flops: 0, bytes: 0 };
      const again = recompute ? [...times(layer), { flops: -joined.flops, bytes: -joined.bytes }] : [];
      assertEquals(take(), sum([...again, ...times(backward), ...embedding.weight]));

      const parameters = [...new Judge(setting(model, recompute)).parameters(whole(model))][0][1];
      await compute.finish();
      const { vote, step } = stepCosts(parameters);
      // Norms are summed in chunks of each tensor: small tensors leave chunks half empty.
      assert(take().flops >= sum(vote).flops);
      await compute.step({
        commit: true,
        clip: 1,
        learningRate: 0,
        step: 1,
        beta1: 0.9,
        beta2: 0.9,
        epsilon: 1e-8,
        weightDecay: 0,
      });
      assertAlmostEquals(take().flops / sum(step).flops, 1, 0.02);
      compute.close();
    });

    Deno.test(`${what}: the memory model is what a device holds, and a little room`, async () => {
      const device = referenceDevice();
      const compute = await open(device, slice(model, recompute)),
        judge = new Judge(setting(model, recompute));
      const held = (microbatches: number) => {
        const own = new Judge({ ...setting(model, recompute), shape: { ...shape, microbatches } });
        return own.memory(whole(model)).get(0)!;
      };
      assertEquals(held(3), held(1), "a single stage has one microbatch under way");
      await forward(compute, 0);
      await compute.backward(0, 0);
      const { peak } = device.memory();
      const predicted = judge.memory(whole(model)).get(0)!;
      assert(peak <= predicted, `${peak} bytes on the device, ${predicted} predicted`);
      assert(peak >= predicted * 0.8, `${peak} bytes on the device, ${predicted} predicted`);
      const before = device.memory().used;
      await forward(compute, 1);
      const one = device.memory().used;
      await forward(compute, 2);
      const kept = device.memory().used - one;
      assertEquals(kept, one - before);
      const layers = dense.num_hidden_layers;
      const { kept: words } = judge.kept(whole(model)[0]);
      // Beside the head's gradient; before the first layer of a ladder nothing is late, and its input is nobody's output.
      const first = "ladder_residual" in model ? (recompute ? -1 : 1) : 0;
      assertAlmostEquals(kept / (4 * (layers * words + (1 + first) * T * dense.hidden_size)), 1, 0.05);
      const halved = T * dense.hidden_size + layers * judge.kept(whole(model)[0]).halved;
      await compute.backwardInput(0, 1);
      const between = device.memory().used - one; // of microbatch 1: microbatch 2 takes what it took before
      assertAlmostEquals(between / (4 * halved), 1, 0.05, "between the halves of a split backward pass");
      await compute.backwardWeight(0, 1);
      await compute.backward(0, 2);
      await compute.finish(); // which reads the notes of all passes
      assert(device.memory().used <= before, "nothing stays");
      compute.close();
    });
  }
}

Deno.test("with bf16 products a device holds no more than the memory model says", async () => {
  for (const model of [dense, moe, sharing, ladder]) {
    for (const recompute of [false, true]) {
      const device = referenceDevice();
      const compute = await open(device, { ...slice(model, recompute), precision: "bf16" });
      await forward(compute, 0);
      await compute.backward(0, 0);
      const { peak } = device.memory();
      const judge = new Judge({ ...setting(model, recompute), precision: "bf16" });
      const predicted = judge.memory(whole(model)).get(0)!;
      assert(peak <= predicted, `${peak} bytes on the device, ${predicted} predicted`);
      assert(peak >= predicted * 0.7, `${peak} bytes on the device, ${predicted} predicted`);
      compute.close();
    }
  }
});

function setting(model: typeof dense, recompute: boolean) {
  const cluster = uniformCluster("one", [{
    id: "me",
    profile: { flops: 1e9, bandwidth: 1e9, memory: 1e9, deviceName: "" },
  }], { latency: 0, bandwidth: 1e9 });
  return { config: parseConfig(model), shape, recompute, cluster };
}

function whole(model: typeof dense): Division {
  return [{ worker: 0, layers: model.num_hidden_layers, remote: [] }];
}

Deno.test("a call takes as long as the slower of arithmetic and memory", () => {
  const costs = [{ flops: 100, bytes: 1 }, { flops: 1, bytes: 100 }];
  assertEquals(secondsOf(costs, { flops: 10, bandwidth: 50 }), 12);
});
