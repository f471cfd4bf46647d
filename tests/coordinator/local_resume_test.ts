/** A run that stops inside a phase of local training goes on as if it had not: outer momentum, rounding and all moments. */
import { assert, assertEquals } from "@std/assert";
import type { MeshInMemory } from "../mesh_in_memory.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

const recipe: SmallRecipe = { microbatches: 6, mesh: "shares = [4, 2]", local: "every = 5" };

/** Digests of everything that lies in a checkpoint's folders. */
async function everything(mesh: MeshInMemory, step: number): Promise<Record<string, string>> {
  const local = `/runs/small/checkpoints/step-${String(step).padStart(6, "0")}.state/local.safetensors`;
  const files = { ...stored(mesh, step), local: mesh.storage.files.get(local)! };
  return Object.fromEntries(
    await Promise.all(
      Object.entries(files).map(async ([name, bytes]) => [
        name,
        new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())).toHex(),
      ]),
    ),
  );
}

async function whole(workers: number, change: SmallRecipe = {}) {
  const mesh = await smallMesh("reference", workers);
  try {
    assertEquals((await mesh.run(smallRecipe({ ...recipe, ...change }))).event, "done");
    return { steps: mesh.steps(), stored: await everything(mesh, 20) };
  } finally {
    await mesh.close();
  }
}

/** Stops a run at step 10 and goes on with it on `workers`, with another recipe where one is given. */
async function interrupted(before: number, workers: number, change: SmallRecipe = {}, then = change) {
  const first = await smallMesh("reference", before);
  try {
    let asked: Promise<boolean> | undefined;
    await first.run(smallRecipe({ ...recipe, ...change }), false, (event) => {
      if (event.event === "checkpoint" && event.position.step === 10) asked = first.coordinator.stop();
    });
    await asked;
  } finally {
    await first.close();
  }
  const second = await smallMesh("reference", workers, { storage: first.storage });
  try {
    const outcome = await second.run(smallRecipe({ ...recipe, ...then }), true);
    assertEquals(outcome.event, "done", JSON.stringify(outcome));
    const resumed = second.events.find((event) => event.event === "resumed")!;
    assert(resumed.event === "resumed");
    const replicas = second.events.filter((event) => event.event === "replicas");
    return {
      at: resumed.position.step,
      steps: second.steps(),
      stored: await everything(second, 20),
      replicas,
    };
  } finally {
    await second.close();
  }
}

Deno.test("local training that was stopped between two outer steps' intervals = the undisturbed run", async () => {
  const undisturbed = await whole(2);
  for (const [before, workers] of [[2, 2], [2, 3], [3, 2]]) {
    const { at, steps, stored, replicas } = await interrupted(before, workers);
    assert(at >= 10 && at < 20, `resumed at step ${at}`);
    assertEquals(steps, undisturbed.steps.slice(at), `${before}, then ${workers} workers`);
    assertEquals(stored, undisturbed.stored, `${before}, then ${workers} workers`);
    assertEquals(replicas, []);
  }
});

Deno.test("three replicas with tied embeddings go on as well", async () => {
  const change = { mesh: "shares = [3, 1, 2]", tied: true };
  const undisturbed = await whole(3, change), { at, steps, stored } = await interrupted(3, 4, change);
  assertEquals(steps, undisturbed.steps.slice(at));
  assertEquals(stored, undisturbed.stored);
});

Deno.test("with another number of replicas local training goes on, and says what begins anew", async () => {
  const three = { mesh: "shares = [3, 1, 2]" };
  const { steps, replicas } = await interrupted(3, 2, three, { mesh: "shares = [3, 3]" });
  assertEquals(replicas, [{ event: "replicas", saved: 3, now: 2 }]);
  assert(steps.at(-1)!.loss! < steps[0].loss! * 1.05);
});
