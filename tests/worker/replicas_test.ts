/** Plans with replicas that a worker does not take up, and weights that come back while the next round goes on. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Slice } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { bundlesOf } from "../../worker/replica_bundles.ts";
import { FakeCompute } from "./fake_compute.ts";
import { smallMesh, tinyModel, tinyPlan, zeros } from "./small_mesh.ts";

const model = {
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 1,
  vocab_size: 8,
};
const config = parseConfig(model);
const stage = (worker: string, from: number, to: number) => ({
  worker,
  from,
  to,
  embedding: from === 0,
  head: to === 2,
  experts: Array.from({ length: to - from }, () => []),
});

function slice(
  pipelines: { shares: number[]; stages: ReturnType<typeof stage>[] }[],
  owners = [0, 1, 0, 1],
): Slice {
  return {
    run: "r",
    generation: 1,
    model,
    shape: { batch: 1, sequence: 2, microbatches: 2 },
    recompute: false,
    self: "a",
    operations: { train: [], evaluate: [] },
    stages: pipelines[0].stages,
    replication: { pipelines, owners, own: 0 },
  };
}

const whole = (worker: string) => ({ shares: [1], stages: [stage(worker, 0, 2)] });

Deno.test("replicas of different models are refused", () => {
  assertEquals(bundlesOf(slice([whole("a"), whole("b")]), config).length, 4);
  for (
    const stages of [
      [stage("b", 0, 1)],
      [stage("b", 0, 3)],
      [stage("b", 1, 2)],
      [stage("b", 0, 1), stage("c", 0, 2)],
    ]
  ) {
    assertThrows(
      () => bundlesOf(slice([whole("a"), { shares: [1], stages }]), config),
      Error,
      "not all of one model: one does not hold each of the 2 layers once",
    );
  }
  assertThrows(() => bundlesOf(slice([whole("a"), whole("b")], [0, 1]), config), Error, "owners do not fit");
});

/** A fake device whose reads have the sizes of the model's tensors. */
class Replica extends FakeCompute {
  override async read(part: "weight" | "gradient", tensors: readonly string[]): Promise<ArrayBuffer> {
    await super.read(part, tensors);
    const words = parameterTable(parseConfig(tinyModel(1))).filter(({ name }) => tensors.includes(name))
      .reduce((sum, { shape }) => sum + elements(shape), 0);
    return new ArrayBuffer(4 * words);
  }
}

/** Workers a and b hold all of a model with one layer, which b owns; its weights leave only when the test lets them. `gated`: a device that waits for them. */
function twoReplicas(gated: boolean) {
  const whole = (worker: string) => [{ worker, from: 0, to: 1, embedding: true, head: true, experts: [[]] }];
  const list = (microbatch: number) => ({
    train: [
      { do: "forward" as const, stage: 0, microbatch },
      { do: "backward" as const, stage: 0, microbatch },
      { do: "fold" as const },
      { do: "reduce" as const },
      { do: "vote" as const },
      { do: "spread" as const },
    ],
    evaluate: [],
  });
  const plan = tinyPlan({
    stages: whole("a"),
    model: tinyModel(1),
    pipelines: [{ shares: [1], stages: whole("a") }, { shares: [1], stages: whole("b") }],
    owners: [0, 1, 0],
    operations: { a: list(0), b: list(1) },
  });
  const release = Promise.withResolvers<void>(), begun = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<void>();
  let passes = 0;
  const a = new Replica({
    before: (call) => {
      if (call === "expect ") lost.reject(new Error("nothing more comes"));
      if (!call.startsWith("forward") || ++passes < 2) return;
      begun.resolve();
      return gated ? lost.promise : undefined;
    },
  });
  const b = new Replica({
    before: (call) => call.startsWith("read weight") ? release.promise : undefined,
  });
  const mesh = smallMesh(plan, { a, b });
  const round = (round: number) => {
    const data = zeros(1), given = { generation: 1, round, mode: "train" as const, validLabels: 12 };
    for (const generation of mesh.generations.values()) {
      generation.receive({ type: "round", ...given, ids: data, labels: data });
    }
  };
  return { mesh, round, a, release, begun };
}

/** Lets everything happen that can. */
async function quiet() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("the next round begins while weights come back; its vote and whoever reads weights wait for them", async () => {
  const { mesh, round, a, release, begun } = twoReplicas(false);
  await mesh.start();
  round(0);
  round(1);
  for (const worker of ["a", "b"]) await mesh.heard(worker, "vote");
  mesh.decide(0);
  let settled = false;
  mesh.generations.get("a")!.settled().then(() => settled = true);
  await begun.promise;
  await quiet();
  assertEquals(a.calls.filter((call) => call === "finish").length, 1);
  assertEquals(settled, false);
  const expected = a.calls.findIndex((call) => call.startsWith("expect model.layers.0."));
  assert(expected >= 0 && expected < a.calls.findLastIndex((call) => call.startsWith("forward")));
  release.resolve();
  for (const worker of ["a", "b"]) await mesh.heard(worker, "vote");
  assertEquals(settled, true);
  // A step that is not committed brings none.
  mesh.decide(1, false);
  await mesh.generations.get("a")!.settled();
  assertEquals(a.calls.filter((call) => call.startsWith("expect")).length, 1);
  await mesh.close();
  assertEquals(mesh.failures.size, 0);
});

Deno.test("a generation that ends while weights come back lets go of the passes that wait for them", async () => {
  const { mesh, round, a, release, begun } = twoReplicas(true);
  await mesh.start();
  round(0);
  round(1);
  for (const worker of ["a", "b"]) await mesh.heard(worker, "vote");
  mesh.decide(0);
  await begun.promise;
  const { ended } = mesh.generations.get("a")!;
  mesh.generations.get("a")!.end("the plan changes");
  await ended;
  assertEquals(a.calls.slice(-2), ["forward 0.0 train ids+labels", "expect "]);
  release.resolve();
  await mesh.close();
  assertEquals(mesh.failures.get("a"), undefined);
});
