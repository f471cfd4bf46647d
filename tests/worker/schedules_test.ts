/** Every schedule that workers can run: executed in the order that the simulator shows, to the weights of one worker. */
import { assertEquals, assertThrows } from "@std/assert";
import { uniformCluster } from "../../coordinator/cost/cluster.ts";
import { schedule } from "../../coordinator/schedule/schedule.ts";
import { placement, ScheduleError, type ScheduleName } from "../../coordinator/schedule/schedules.ts";
import { skipPaths, skipSchedule } from "../../coordinator/routes/skip_schedule.ts";
import { simulatePlan } from "../../coordinator/simulator/simulate_plan.ts";
import { referenceDevice } from "../../kernels/mod.ts";
import { type Plan, sliceFor, type Stage } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { elements } from "../../model/tensors.ts";
import { LocalCompute } from "../../worker/local_compute.ts";
import { FakeCompute } from "./fake_compute.ts";
import { smallMesh, tinyModel, tinyPlan, zeros } from "./small_mesh.ts";

const schedules: [name: ScheduleName, workers: number, chunks: number][] = [
  ["1f1b", 2, 1],
  ["gpipe", 3, 1],
  ["eager-1f1b", 3, 1],
  ["interleaved", 2, 2],
  ["interleaved", 2, 3],
  ["zero-bubble-v", 2, 2],
  ["zero-bubble-v", 3, 2],
];
const microbatches = 4;

function stagesFor(name: ScheduleName, workers: number, chunks: number, layersEach: number): Stage[] {
  const where = placement(name, { workers, chunks });
  return where.map((w, s) => ({
    worker: `w${w}`,
    from: s * layersEach,
    to: (s + 1) * layersEach,
    embedding: s === 0,
    head: s === where.length - 1,
    experts: Array.from({ length: layersEach }, () => []),
  }));
}

for (const [name, workers, chunks] of schedules) {
  const what = `${name}, ${workers} workers, ${chunks} ${chunks === 1 ? "stage" : "stages"} each`;
  const names = Array.from({ length: workers }, (_, w) => `w${w}`);

  Deno.test(`${what}: workers run what the simulator shows`, async () => {
    const stages = stagesFor(name, workers, chunks, 1);
    const operations = schedule({ stages, microbatches, tied: false, hosts: [], name });
    await runAsShown(
      tinyPlan({ stages, operations, model: tinyModel(stages.length) }, microbatches),
      names,
    );
  });

  Deno.test(`${what}: the weights of one worker, bit for bit`, async () => {
    const alone = await train(schedulePlan("1f1b", 1, 1, workers * chunks));
    assertEquals(await train(schedulePlan(name, workers, chunks, 1)), alone);
  });
}

/** Workers on scripted devices make the passes that the simulator shows, in its order. */
async function runAsShown(plan: Plan, names: readonly string[]): Promise<void> {
  const computes = Object.fromEntries(names.map((worker) => [worker, new FakeCompute()]));
  const mesh = smallMesh(plan, computes);
  await mesh.start();
  for (const generation of mesh.generations.values()) {
    const data = zeros(microbatches);
    generation.receive({
      type: "round",
      generation: 1,
      round: 0,
      mode: "train",
      validLabels: 1,
      ids: data,
      labels: data,
    });
  }
  for (const worker of names) await mesh.heard(worker, "vote");
  mesh.decide(0);
  for (const worker of names) await mesh.generations.get(worker)!.settled();
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
  const profile = { flops: 1e9, bandwidth: 1e9, memory: 1e9, deviceName: "" };
  const cluster = uniformCluster("c", names.map((id) => ({ id, profile })), {
    latency: 1e-4,
    bandwidth: 1e8,
  });
  const { spans } = simulatePlan(plan, cluster, { trace: true });
  names.forEach((worker, w) => {
    const ran = computes[worker].calls.flatMap((call) => {
      const [made, work, stage] =
        call.match(/^(forward|backward|backward-input|backward-weight) (\d+)\.\d+/) ?? [];
      // Behind a head without layers there is nothing to go back through: that takes no time and is not shown.
      const { from, to } = plan.pipelines[0].stages[Number(stage ?? 0)];
      return made === undefined || (work === "backward" && from === to) ? [] : [made];
    });
    const shown = spans.filter((span) => span.worker === w && span.work !== "step")
      .map(({ work, stage, microbatch }) => `${work} ${stage}.${microbatch}`);
    assertEquals(ran, shown);
  });
}

/** Stages of a layer each on `workers` workers in turn, and the head with the first. */
function skipStages(count: number, workers: number): Stage[] {
  const layers = Array.from({ length: count }, (_, s): Stage => ({
    worker: `w${s % workers}`,
    from: s,
    to: s + 1,
    embedding: s === 0,
    head: false,
    experts: [[]],
  }));
  return [...layers, { worker: "w0", from: count, to: count, embedding: false, head: true, experts: [] }];
}

for (const [stages, visits] of [[4, 2], [4, 3], [5, 1], [3, 3]]) {
  const what = `SkipPipe, ${visits} of ${stages} stages`;
  const names = Array.from({ length: stages }, (_, w) => `w${w}`);

  Deno.test(`${what}: workers run what the simulator shows`, async () => {
    const own = skipStages(stages, stages);
    const operations = skipSchedule({ stages: own, microbatches, visits, hosts: [] });
    await runAsShown(tinyPlan({ stages: own, operations, model: tinyModel(stages) }, microbatches), names);
    const passes = names.flatMap((worker) =>
      operations[worker].train.filter(({ do: what }) => what === "forward")
    );
    assertEquals(passes.length, microbatches * (visits + 1), "and the head");
  });

  Deno.test(`${what}: the weights of one worker with the same paths, bit for bit`, async () => {
    const plan = (workers: number) => {
      const own = skipStages(stages, workers);
      return planOf(own, skipSchedule({ stages: own, microbatches, visits, hosts: [] }));
    };
    const alone = await train(plan(1));
    assertEquals(await train(plan(stages)), alone);
    assertEquals(await train(plan(2)), alone);
  });
}

Deno.test("SkipPipe visits the first stage always and the others equally often", () => {
  const paths = skipPaths(5, 8, 3);
  const visits = [0, 1, 2, 3, 4].map((stage) => paths.filter((path) => path.includes(stage)).length);
  assertEquals(visits, [8, 4, 4, 4, 4]);
  for (const path of paths) assertEquals(path, [...new Set(path)].sort((a, b) => a - b));
  assertThrows(() => skipPaths(3, 8, 4), ScheduleError, "from 1 to 3");
});

const shape = { batch: 2, sequence: 6, microbatches };

function schedulePlan(name: ScheduleName, workers: number, chunks: number, layersEach: number): Plan {
  const stages = stagesFor(name, workers, chunks, layersEach);
  return planOf(stages, schedule({ stages, microbatches, tied: false, hosts: [], name }));
}

function planOf(stages: Stage[], operations: Plan["operations"]): Plan {
  const model = {
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: stages.at(-1)!.to,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    vocab_size: 40,
  };
  const pipelines = [{ shares: [shape.microbatches], stages }],
    owners = new Array(stages.at(-1)!.to + 2).fill(0);
  return { run: "r", generation: 1, model, shape, pipelines, owners, recompute: false, operations };
}

/** Two steps of every worker's list on reference devices of their own; answers with all weights. */
async function train(plan: Plan): Promise<Record<string, number[]>> {
  const config = parseConfig(plan.model), source = freshModel(config, 3);
  const tokens = shape.batch * shape.sequence;
  const ids = Uint32Array.from({ length: microbatches * tokens }, (_, i) => (i * 7 + 3) % config.vocabSize);
  const labels = ids.map((id) => (id * 5 + 1) % config.vocabSize);
  const workers = await Promise.all(
    Object.keys(plan.operations).map(async (id) => {
      const exchanger = () => Promise.reject(new Error("no experts"));
      const compute = new LocalCompute({ device: referenceDevice(), exchanger, now: () => 0, memory: 1e9 });
      const held = await compute.load(sliceFor(plan, id));
      for (const { name, shape } of held) {
        await compute.put(name, "weight", 0, await source.read(name, 0, elements(shape)));
      }
      return { id, compute, held };
    }),
  );
  for (let step = 1; step <= 2; step++) {
    const sent = new Map<string, ArrayBuffer>(), voted: Promise<unknown>[] = [];
    const lists = workers.map(({ id, compute }) => ({
      compute,
      left: [...plan.operations[id].train],
      at: new Map(),
    }));
    for (let moved = true; moved;) {
      moved = false;
      for (const { compute, left, at } of lists) {
        const operation = left[0];
        if (operation === undefined || operation.do === "vote") continue;
        if (!("microbatch" in operation)) throw new Error("nothing is tied here");
        if (operation.do === "send" || operation.do === "receive") {
          const { what, stage, peer, microbatch } = operation;
          if (operation.do === "send") {
            sent.set(`${what} ${peer} ${microbatch}`, at.get(`${what} ${stage} ${microbatch}`));
          } else if (!sent.has(`${what} ${stage} ${microbatch}`)) continue;
        } else {
          const { stage, microbatch } = operation, { embedding, head } = plan.pipelines[0].stages[stage];
          const span = [microbatch * tokens, (microbatch + 1) * tokens] as const;
          const input = (kind: string) => sent.get(`${kind} ${stage} ${microbatch}`);
          const keep = (what: string, made: ArrayBuffer | undefined) =>
            at.set(`${what} ${stage} ${microbatch}`, made);
          switch (operation.do) {
            case "forward":
              keep(
                "activation",
                await compute.forward({
                  stage,
                  microbatch,
                  mode: "train",
                  validLabels: labels.length,
                  ...(embedding ? { ids: ids.slice(...span) } : { activation: input("activation")! }),
                  ...(head ? { labels: labels.slice(...span) } : {}),
                }),
              );
              break;
            case "backward":
              keep("gradient", await compute.backward(stage, microbatch, input("gradient")));
              break;
            case "backward-input":
              keep("gradient", await compute.backwardInput(stage, microbatch, input("gradient")));
              break;
            case "backward-weight":
              await compute.backwardWeight(stage, microbatch);
          }
        }
        left.shift();
        moved = true;
      }
    }
    assertEquals(lists.map(({ left }) => left.length), lists.map(() => 1), "every list waits for the vote");
    for (const { compute } of workers) voted.push(compute.finish());
    await Promise.all(voted);
    const decision = {
      commit: true,
      clip: 1,
      learningRate: 0.01,
      step,
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
    };
    for (const { compute } of workers) await compute.step({ ...decision, weightDecay: 0.1 });
  }
  const weights: Record<string, number[]> = {};
  for (const { compute, held } of workers) {
    for (const { name, shape } of held) {
      weights[name] = [...new Uint32Array((await compute.get(name, "weight", 0, elements(shape))).buffer)];
    }
    compute.close();
  }
  return weights;
}
