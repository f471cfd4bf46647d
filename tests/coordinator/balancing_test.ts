/** Balancing over the whole batch: what is sent, what it does to gradients, and that it is the same on every mesh. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { routerBackward } from "../../kernels/mod.ts";
import { smallMesh, smallRecipe, stored } from "./small_run.ts";

const recipe = (more: Parameters<typeof smallRecipe>[0] = {}) =>
  smallRecipe({ steps: 12, checkpointEvery: 5, ...more })
    .replace("warmup = 2", 'warmup = 2\nbalancing = "global"\nrouter_aux_loss_coef = 0.5');

async function train(
  workers: number,
  text: string,
  stopAt?: number,
  storage?: Awaited<ReturnType<typeof smallMesh>>["storage"],
) {
  const mesh = await smallMesh("reference", workers, storage ? { storage } : {});
  try {
    let asked: Promise<boolean> | undefined;
    const outcome = await mesh.run(text, storage !== undefined, (event) => {
      if (event.event === "step" && event.step === stopAt) asked = mesh.coordinator.stop();
    });
    await asked;
    assertEquals(outcome.event, stopAt === undefined ? "done" : "stopped", JSON.stringify(outcome));
    return { steps: mesh.steps(), storage: mesh.storage, stored: stopAt ? undefined : stored(mesh, 12) };
  } finally {
    await mesh.close();
  }
}

const whole = await train(1, recipe());

Deno.test("over the whole batch other weights come out than over microbatches", async () => {
  const micro = await train(1, recipe().replace('"global"', '"microbatch"'));
  // The first step has no step before it: it takes its own microbatches, as the other does.
  assertEquals(whole.steps.slice(0, 2).map(({ norm }) => norm)[0], micro.steps[0].norm);
  assertNotEquals(whole.steps[1].norm, micro.steps[1].norm);
  assertNotEquals(whole.stored, micro.stored);
});

Deno.test("balancing over the whole batch gives the same bits on every mesh", async () => {
  const spread = await train(4, recipe({ stages: 2, hosts: 2 }));
  assertEquals(spread.steps, whole.steps);
  assertEquals(spread.stored, whole.stored);
});

Deno.test("the loads are part of a checkpoint: a run that goes on ends in the same weights", async () => {
  const first = await train(2, recipe({ stages: 2 }), 7);
  const state = JSON.parse(first.storage.string("/runs/small/checkpoints/step-000007.state/state.json"));
  assertEquals(state.recipe.load.length, 3, "one list for each layer");
  // 6 sequences of 12 tokens, 2 experts each.
  for (const counts of state.recipe.load) {
    assertEquals(counts.reduce((a: number, b: number) => a + b, 0), 6 * 12 * 2);
  }
  const second = await train(1, recipe(), undefined, first.storage);
  assertEquals(second.stored, whole.stored);
});

Deno.test("the gradient takes f from what it is given and P from its own tokens", () => {
  const shape = { rows: 2, experts: 3, chosen: 1, balance: 1, z: 0 };
  const logits = Float32Array.from([2, 0, -1, 0.5, 1, 0]), dlogits = new Float32Array(6);
  const f = [0.1, 0.2, 0.7];
  routerBackward.reference({
    logits,
    experts: Uint32Array.from([0, 1]),
    weights: Float32Array.from([1, 1]),
    dweights: new Float32Array(2),
    stats: Float32Array.from([...f, 9, 9, 9, 9]), // P and z are not read
    dlogits,
  }, shape);
  const loss = (at: Float64Array) => {
    let sum = 0;
    for (let row = 0; row < 2; row++) {
      const e = Array.from(at.subarray(3 * row, 3 * row + 3), Math.exp), all = e[0] + e[1] + e[2];
      e.forEach((value, i) => sum += 3 * f[i] * value / all / 2);
    }
    return sum;
  };
  for (let i = 0; i < 6; i++) {
    const up = Float64Array.from(logits), down = Float64Array.from(logits);
    up[i] += 1e-5;
    down[i] -= 1e-5;
    const slope = (loss(up) - loss(down)) / 2e-5;
    assert(Math.abs(slope - dlogits[i]) < 1e-6, `logit ${i}: ${dlogits[i]}, finite difference ${slope}`);
  }
});
