/** Local training: replicas that train each for themselves and take outer steps together. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { MeshOptions } from "../mesh_in_memory.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

const recipe: SmallRecipe = { microbatches: 6, mesh: "shares = [4, 2]", local: "every = 5" };

async function train(workers: number, change: SmallRecipe = {}, more: Partial<MeshOptions> = {}) {
  const mesh = await smallMesh("reference", workers, more);
  try {
    const outcome = await mesh.run(smallRecipe({ ...recipe, ...change }));
    assertEquals(outcome.event, "done", JSON.stringify(outcome));
    const nll = mesh.events.flatMap((e) => e.event === "evaluation" ? [e.nll!] : []);
    const sent = mesh.events.flatMap((e) =>
      e.event === "step" ? [e.workers.reduce((sum, worker) => sum + worker.sent, 0)] : []
    );
    const tokens = mesh.events.flatMap((e) => e.event === "step" ? [e.tokens] : []);
    return { steps: mesh.steps(), nll, sent, tokens, stored: stored(mesh, 20) };
  } finally {
    await mesh.close();
  }
}

/** Delays every forward pass of a worker. */
const slow = (worker: string, ms: number): Pick<MeshOptions, "wrap"> => ({
  wrap: (compute, name) =>
    new Proxy(compute, {
      get(target, key) {
        const value = Reflect.get(target, key);
        if (name !== worker || key !== "forward") {
          return typeof value === "function" ? value.bind(target) : value;
        }
        return async (...args: Parameters<typeof compute.forward>) => {
          await new Promise((resolve) => setTimeout(resolve, ms));
          return await target.forward(...args);
        };
      },
    }),
});

Deno.test("replicas learn alone, meet every few steps, and talk only then", async () => {
  const local = await train(2);
  assert(local.steps.at(-1)!.loss! < 0.95 * local.steps[0].loss!, "it learns");
  // Reports tell of an outer step's traffic with the step behind it.
  const talked = local.sent.slice(0, 10).map((bytes) => bytes > 0);
  assertEquals(talked, Array.from({ length: 10 }, (_, i) => i === 5));
  const every = await train(2, { local: undefined });
  const sum = (bytes: readonly number[]) => bytes.slice(0, 10).reduce((a, b) => a + b, 0);
  assert(10 * sum(local.sent) < 1.5 * sum(every.sent), `${sum(local.sent)} of ${sum(every.sent)} bytes`);
});

Deno.test("local training does not depend on how its replicas are divided, or who is faster", async () => {
  const two = await train(2);
  const same = ({ steps, nll, stored }: typeof two) => ({ steps, nll, stored });
  assertEquals(same(await train(3)), same(two));
  assertEquals(same(await train(5, { mesh: "shares = [4, 2]\nexpert_hosts = 1" })), same(two));
  assertEquals(same(await train(2, { local: "every = 5\npatience = 1000" }, slow("w0", 5))), same(two));
  const tied = await train(2, { tied: true });
  assertEquals(same(await train(4, { tied: true })), same(tied));
});

Deno.test("outer steps of rate 1 without momentum behind every step train about as well as synchronous replicas", async () => {
  const one = await train(2, {
    local: "every = 1\nouter_learning_rate = 1\nmomentum = 0",
    mesh: "shares = [3, 3]",
  });
  const sync = await train(2, { local: undefined, mesh: "shares = [3, 3]" });
  assert(
    Math.abs(one.nll.at(-1)! / sync.nll.at(-1)! - 1) < 0.1,
    `${one.nll.at(-1)} beside ${sync.nll.at(-1)}`,
  );
});

Deno.test("a replica that is late contributes what it has done, and the others do not wait for more", async () => {
  const late = await train(2, { local: "every = 5\npatience = 0" }, slow("w1", 40));
  const whole = late.tokens[0];
  assert(late.tokens.some((tokens) => tokens < whole), "some steps were made by one replica alone");
  assert(late.steps.at(-1)!.loss! < late.steps[0].loss!);
});

Deno.test("local training that cannot be is refused with what to change", async () => {
  for (
    const [change, says] of [
      [{ local: "every = 0" }, "every"],
      [{ local: "every = 3" }, "steps = 20 is no multiple of local.every = 3"],
      [{ local: "every = 4" }, "evaluate_every = 10 is no multiple"],
      [{ mesh: "replicas = 1" }, "Local training needs at least two replicas"],
    ] as const
  ) {
    const mesh = await smallMesh("reference", 2);
    try {
      const error = await mesh.run(smallRecipe({ ...recipe, ...change })).then((done) => done, (e) => e);
      assertStringIncludes(error?.message ?? "", says);
    } finally {
      await mesh.close();
    }
  }
});

Deno.test("a replica that is gone ends the run with its last checkpoint", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    const outcome = await mesh.run(smallRecipe({ ...recipe, checkpointEvery: 5 }), false, (event) => {
      if (event.event === "checkpoint" && event.position.step === 5) {
        mesh.workers.get("w1")!.channel.close("gone");
      }
    });
    assertEquals([outcome.event, "name" in outcome && outcome.name], ["stopped", "WorkerFailed"]);
    assertEquals("path" in outcome && outcome.path, "/runs/small/checkpoints/step-000005");
  } finally {
    await mesh.close();
  }
});
