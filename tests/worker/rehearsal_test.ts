/** What a slice of a plan is found to run before it runs, against what it runs. */
import { assertEquals } from "@std/assert";
import { referenceDevice } from "../../kernels/mod.ts";
import { chooseVariant } from "../../kernels/webgpu/call.ts";
import type { Slice } from "../../mesh/plan.ts";
import { loadFresh, step, Witness } from "../on_device.ts";
import { LocalCompute } from "../../worker/local_compute.ts";
import { compileBackwards, rehearse } from "../../worker/rehearsal.ts";

const model = {
  hidden_size: 16,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 8,
  vocab_size: 32,
  num_local_experts: 4,
  num_experts_per_tok: 2,
};
const shape = { batch: 2, sequence: 6, microbatches: 1 };
const tokens = shape.batch * shape.sequence;

/** Two stages, of which the first has an expert of each layer at "h". */
function slice(self: string): Slice {
  const stage = (worker: string, from: number) => ({
    worker,
    from,
    to: from + 1,
    embedding: from === 0,
    head: from === 1,
    experts: [from === 0 ? ["a", "h", "a", "a"] : ["b", "b", "b", "b"]],
  });
  return {
    run: "test",
    generation: 1,
    model,
    shape,
    stages: [stage("a", 0), stage("b", 1)],
    recompute: false,
    self,
    operations: { train: [], evaluate: [] },
  };
}

/** A device that runs everything, and the programs that it ran. */
function witnessed() {
  const inner = referenceDevice(), programs: string[] = [];
  const device = new Witness(inner, (kernel, values) => {
    programs.push(`${kernel.name} / ${chooseVariant(kernel, values, inner.info).name}`);
  });
  return { device, programs };
}

/** The programs of a real round of one slice; rows that leave come back as they are. */
async function played(self: string): Promise<Set<string>> {
  const { device, programs } = witnessed();
  const compute = new LocalCompute({
    device,
    exchanger: ({ parts }) => Promise.resolve(parts.map(({ rows }) => rows)),
    now: () => 0,
    memory: 1e9,
  });
  await loadFresh(compute, slice(self));
  const words = Uint32Array.from({ length: tokens }, (_, i) => i),
    border = () => new Float32Array(tokens * model.hidden_size).fill(0.5).buffer;
  if (self === "a") {
    await compute.forward({ stage: 0, microbatch: 0, mode: "train", ids: words, validLabels: tokens });
    await compute.backward(0, 0, border());
  } else if (self === "b") {
    const given = { activation: border(), labels: words, validLabels: tokens };
    await compute.forward({ stage: 1, microbatch: 0, mode: "train", ...given });
    await compute.backward(1, 0);
  } else {
    for (const pass of ["forward", "backward"] as const) {
      const rows = new Float32Array(6 * model.hidden_size).buffer;
      await compute.host({
        layer: 0,
        microbatch: 0,
        pass,
        mode: "train",
        part: { counts: Uint32Array.of(6), rows },
      });
      if (pass === "backward") await compute.hostWeights(0, 0);
    }
  }
  await compute.finish();
  await compute.step(step);
  compute.close();
  return new Set(programs);
}

for (const self of ["a", "b", "h"]) {
  Deno.test(`the programs that a rehearsal of ${self}'s slice finds are those of its round`, async () => {
    const found = await rehearse(slice(self), referenceDevice().info);
    assertEquals(
      found.map(({ kernel, variant }) => `${kernel.name} / ${variant}`).toSorted(),
      [
        ...await played(self),
      ].toSorted(),
    );
  });
}

Deno.test("programs are compiled from the last to the first, each once, and memory is given back", async () => {
  const { device, programs } = witnessed();
  const found = await rehearse(slice("a"), device.info);
  await compileBackwards(device, found);
  assertEquals(
    programs,
    found.map(({ kernel, variant }) => `${kernel.name} / ${variant}`).toReversed(),
  );
  assertEquals(device.memory().used, 0);
});
