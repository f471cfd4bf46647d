/** However a model is spread, losses and weights are those of one worker, bit for bit. */
import { assert, assertEquals } from "@std/assert";
import { quietDriver } from "../../cli/driver.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import type { MeshOptions } from "../mesh_in_memory.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

quietDriver();
type Kind = "webgpu" | "reference";

/** Trains and answers with everything that must be the same. */
async function train(kind: Kind, workers: number, recipe: SmallRecipe, more: Partial<MeshOptions> = {}) {
  const mesh = await smallMesh(kind, workers, more);
  try {
    const { event } = await mesh.run(smallRecipe(recipe));
    assertEquals(event, "done", JSON.stringify(mesh.events.at(-1)));
    const evaluations = mesh.events.flatMap((e) => e.event === "evaluation" ? [e.nll] : []);
    return { steps: mesh.steps(), evaluations, stored: stored(mesh, recipe.steps ?? 20) };
  } finally {
    await mesh.close();
  }
}

const shapes: [what: string, workers: number, recipe: SmallRecipe][] = [
  ["2 stages", 2, { stages: 2 }],
  ["2 stages and 2 expert hosts", 4, { stages: 2, hosts: 2 }],
];

for (const kind of ["reference", "webgpu"] as const) {
  for (const tied of [false, true]) {
    Deno.test(`mesh = one worker on ${kind}, embedding and head ${tied ? "tied" : "apart"}`, async () => {
      const one = await train(kind, 1, { tied });
      assertEquals(one.steps.length, 20);
      assert(one.steps.at(-1)!.loss! < 0.9 * one.steps[0].loss!, "it learns");
      for (const [what, workers, recipe] of shapes) {
        const spread = await train(kind, workers, { ...recipe, tied });
        assertEquals(spread.steps, one.steps, `${what}: losses and norms`);
        assertEquals(spread.evaluations, one.evaluations, `${what}: validation`);
        assert(spread.stored.weights !== undefined);
        assertEquals(spread.stored, one.stored, `${what}: weights and moments`);
      }
    });
  }
}

Deno.test("mesh = one worker, dense model in three stages, with and without recomputation", async () => {
  const one = await train("reference", 1, { experts: 0, steps: 8 });
  assertEquals(await train("reference", 3, { experts: 0, steps: 8, stages: 3 }), one);
  assertEquals(await train("reference", 3, { experts: 0, steps: 8, stages: 3, recompute: true }), one);
});

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test(`mesh = one worker on ${kind}, zero-bubble V with an expert host, replicas, recomputation, bf16`, async () => {
    const recipe = { tied: true, shared: 10, layers: 4, steps: 6, microbatches: 6 };
    const mesh = `schedule = "zero-bubble-v"`;
    const one = await train(kind, 1, recipe);
    assertEquals(await train(kind, 3, { ...recipe, mesh: `${mesh}\nexpert_hosts = 1` }), one);
    assertEquals(await train(kind, 2, { ...recipe, mesh, recompute: true }), one);
    const rounded = { ...recipe, steps: 2, precision: "bf16" as const };
    assertEquals(await train(kind, 2, { ...rounded, mesh }), await train(kind, 1, rounded), "bf16");
    const shares = await train(kind, 1, { ...recipe, mesh: "shares = [4, 2]" });
    assertEquals(await train(kind, 4, { ...recipe, mesh: `${mesh}\nreplicas = 2\nshares = [4, 2]` }), shares);
  });
}

Deno.test("microbatches that leave stages out: stages and experts may lie anywhere, and it learns", async () => {
  const skip = (more: string) => ({ tied: true, mesh: `stages = 3\nvisits = 2\n${more}` });
  const plain = await train("reference", 3, skip("expert_hosts = 0"));
  assertEquals(await train("reference", 1, skip("")), plain);
  assertEquals(await train("reference", 4, skip("expert_hosts = 1")), plain);
  assert(plain.steps.at(-1)!.loss! < 0.9 * plain.steps[0].loss!);
  const all = await train("reference", 3, { tied: true, stages: 3, steps: 2 });
  assert(all.steps[1].loss !== plain.steps[1].loss, "stages are left out");
});

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test(`mesh = one worker on ${kind}, a shared expert beside those of hosts`, async () => {
    const one = await train(kind, 1, { shared: 10, steps: 8 });
    assertEquals(await train(kind, 3, { shared: 10, steps: 8, stages: 2, hosts: 1 }), one);
    const plain = await train(kind, 1, { steps: 2 });
    assert(plain.steps[0].loss !== one.steps[0].loss, "it takes part");
  });
}

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test(`mesh = one worker on ${kind}, a ladder residual over stages, hosts, schedules and recomputation`, async () => {
    const recipe = { ladder: true, tied: true, shared: 10, layers: 4, steps: 6, microbatches: 6 };
    const one = await train(kind, 1, recipe);
    assertEquals(await train(kind, 4, { ...recipe, stages: 2, hosts: 2 }), one);
    const mesh = `schedule = "zero-bubble-v"\nexpert_hosts = 1`;
    assertEquals(await train(kind, 3, { ...recipe, mesh, recompute: true }), one);
    const plain = await train(kind, 1, { ...recipe, ladder: false, steps: 2 });
    assert(plain.steps[0].loss !== one.steps[0].loss, "it takes part");
  });
}

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test(`mesh = one worker over WebRTC on ${kind}, expert hosts and a tied embedding included`, async () => {
    const transport = () => weriftTransport({ clock: denoRuntime(), loopback: true });
    const one = await train(kind, 1, { tied: true });
    assertEquals(await train(kind, 4, { tied: true, stages: 2, hosts: 2 }, { transport }), one);
  });
}

Deno.test("lossless codecs keep mesh = one worker; the others train with an error of their own", async () => {
  const one = await train("reference", 1, { tied: true, steps: 8 });
  const spread = (codec: string) => ({
    tied: true,
    steps: 8,
    mesh: `stages = 2\nexpert_hosts = 1\ncodec = "${codec}"`,
  });
  assertEquals(await train("reference", 3, spread("zstd")), one);
  for (const codec of ["bf16", "f16", "int8"] as const) {
    const { steps } = await train("reference", 3, spread(codec));
    const [rounded, exact] = [steps, one.steps].map((each) => each.at(-1)!.loss!);
    assert(rounded !== exact, `${codec} takes part`);
    assert(Math.abs(rounded - exact) < 0.02 * exact, `${codec}: ${rounded}, exact ${exact}`);
  }
});

Deno.test("a run that goes on from a checkpoint ends in the weights of one that was never stopped", async () => {
  const whole = await train("reference", 1, {});
  // Stopped after step 10, then on another mesh with another plan.
  const first = await smallMesh("reference", 2);
  try {
    let asked: Promise<boolean> | undefined;
    const outcome = await first.run(smallRecipe({ stages: 2 }), false, (event) => {
      if (event.event === "step" && event.step === 10) asked = first.coordinator.stop();
    });
    await asked;
    assertEquals([outcome.event, "why" in outcome && outcome.why], ["stopped", "asked"]);
    assertEquals("path" in outcome && outcome.path, "/runs/small/checkpoints/step-000010");
  } finally {
    await first.close();
  }
  const second = await smallMesh("reference", 3, { storage: first.storage });
  try {
    const outcome = await second.run(smallRecipe({ stages: 2, hosts: 1 }), true);
    assertEquals(outcome.event, "done");
    assertEquals(second.steps(), whole.steps.slice(10));
    assertEquals(stored(second, 20), whole.stored);
  } finally {
    await second.close();
  }
});
