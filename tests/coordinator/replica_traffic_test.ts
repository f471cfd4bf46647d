/** What the all-reduce of replicas costs: as much as a ring's, with sums in one order. */
import { assert, assertEquals } from "@std/assert";
import { shareOwnership } from "../../coordinator/cost/holdings.ts";
import { copiesOf } from "../../coordinator/cost/replica_traffic.ts";
import { FRAME_BYTES } from "../../mesh/tensors/frame.ts";
import { parseConfig } from "../../model/config.ts";
import { countParameters } from "../../model/tensors.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

const config = parseConfig({
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 16,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 259,
});

Deno.test("a worker of R replicas sends 2 (R - 1) / R of the model, as in a ring, and no owner more than its share", () => {
  const parameters = countParameters(config).total;
  for (const replicas of [2, 3, 4, 8]) {
    const names = Array.from({ length: replicas }, (_, p) => `w${p}`);
    const pipelines = names.map((worker) => ({
      shares: [1],
      stages: [{
        worker,
        from: 0,
        to: config.layers,
        embedding: true,
        head: true,
        experts: Array.from({ length: config.layers }, () => []),
      }],
    }));
    const copies = copiesOf(config, { pipelines, owners: shareOwnership(config, replicas) });
    const ring = 4 * parameters * 2 * (replicas - 1) / replicas;
    // Gradients go to owners, weights come back.
    const sent = names.map((name) =>
      copies.reduce(
        (sum, { owner, copy, bytes }) => sum + (owner === name || copy === name ? bytes - FRAME_BYTES : 0),
        0,
      )
    );
    assertEquals(sent.reduce((a, b) => a + b, 0), Math.round(ring * replicas), `${replicas} replicas`);
    // Layers are owned whole: 18 parts do not divide evenly.
    assert(Math.max(...sent) <= 1.25 * ring, `${replicas} replicas: ${sent} beside ${ring}`);
  }
});

Deno.test("four replicas send in a run what the formula says, but for headers", async () => {
  const mesh = await smallMesh("reference", 4);
  try {
    const recipe = smallRecipe({ steps: 4, layers: 6, microbatches: 6, mesh: "shares = [2, 1, 1, 2]" });
    assertEquals((await mesh.run(recipe)).event, "done");
    const plan = mesh.events.find((event) => event.event === "plan")!;
    assert(plan.event === "plan" && plan.workers.length === 4);
    const bytes = 4 * plan.parameters * 2 * 3; // of all four together
    const steps = mesh.events.flatMap((event) =>
      event.event === "step" ? [event.workers.reduce((sum, { sent }) => sum + sent, 0)] : []
    );
    // A step's report has the weights of the step before in it, so the first has only gradients.
    for (const sent of steps.slice(1)) assert(sent >= bytes && sent < 1.1 * bytes, `${sent} beside ${bytes}`);
  } finally {
    await mesh.close();
  }
});
