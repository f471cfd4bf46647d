/** With bf16 products, too, losses and weights do not depend on how a model is spread. */
import { assert, assertEquals } from "@std/assert";
import { quietDriver } from "../../cli/driver.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

quietDriver();

async function train(kind: "webgpu" | "reference", workers: number, recipe: SmallRecipe) {
  const steps = 6;
  const mesh = await smallMesh(kind, workers);
  try {
    const { event } = await mesh.run(smallRecipe({ ...recipe, steps, checkpointEvery: 3 }));
    assertEquals(event, "done", JSON.stringify(mesh.events.at(-1)));
    const evaluations = mesh.events.flatMap((e) => e.event === "evaluation" ? [e.nll] : []);
    return { steps: mesh.steps(), evaluations, stored: stored(mesh, steps) };
  } finally {
    await mesh.close();
  }
}

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test(`mesh = one worker on ${kind} with bf16 products, hosts, a tied embedding, recomputation`, async () => {
    const recipe = { precision: "bf16", tied: true, shared: 10 } as const;
    const one = await train(kind, 1, recipe);
    assert(one.steps.at(-1)!.loss! < one.steps[0].loss!, "it learns");
    assertEquals(await train(kind, 4, { ...recipe, stages: 2, hosts: 2 }), one);
    assertEquals(await train(kind, 3, { ...recipe, stages: 3, recompute: true }), one);
    const plain = await train(kind, 1, { ...recipe, precision: "f32" });
    assert(plain.steps[0].loss !== one.steps[0].loss, "products are rounded");
  });
}
