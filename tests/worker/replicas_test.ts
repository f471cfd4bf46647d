/** Plans with replicas that a worker does not take up. */
import { assertEquals, assertThrows } from "@std/assert";
import type { Slice } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { bundlesOf } from "../../worker/replicas.ts";

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
