/** What ends a run before its time, and that nothing is lost by it but the steps since the last checkpoint. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { JournalError, PlanInfeasible, RecipeError } from "../../coordinator/errors.ts";
import type { Outcome, RunEvent } from "../../coordinator/events.ts";
import { encodeMessage } from "../../mesh/control/codec.ts";
import { TextError, TokenizerError } from "../../model/errors.ts";
import type { Compute } from "../../worker/compute.ts";
import type { MeshInMemory } from "../mesh_in_memory.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

type Finished = Awaited<ReturnType<Compute["finish"]>>;

/** A compute whose n-th training result (from 1) is changed. */
function altering(compute: Compute, change: (n: number, result: Finished) => Finished): Compute {
  let n = 0;
  return new Proxy(compute, {
    get(target, key) {
      const value = Reflect.get(target, key);
      if (key !== "finish") return typeof value === "function" ? value.bind(target) : value;
      return async () => {
        const result = await target.finish();
        return result.tensors.length > 0 ? change(++n, result) : result;
      };
    },
  });
}

/** Runs and breaks something when a step is done; asserts that the run stopped and answers with how. */
async function broken(
  mesh: MeshInMemory,
  recipe: SmallRecipe,
  step: number,
  act: () => unknown,
): Promise<Extract<Outcome, { event: "stopped" }>> {
  const outcome = await mesh.run(smallRecipe(recipe), false, (event) => {
    if (event.event === "step" && event.step === step) act();
  });
  assert(outcome.event === "stopped", JSON.stringify(outcome));
  assertEquals(mesh.events.at(-1), outcome);
  assertEquals(outcome.reason.includes("\n"), false, "one paragraph");
  return outcome;
}

const undisturbed = async () => {
  const mesh = await smallMesh("reference", 1);
  try {
    await mesh.run(smallRecipe());
    return { steps: mesh.steps(), stored: stored(mesh, 20) };
  } finally {
    await mesh.close();
  }
};

/** Goes on in a new mesh and compares with a run that nothing happened to. */
async function resumesExactly(mesh: MeshInMemory, from: number): Promise<void> {
  const again = await smallMesh("reference", 2, { storage: mesh.storage });
  try {
    const outcome = await again.run(smallRecipe({ stages: 2 }), true);
    assertEquals(outcome.event, "done");
    const whole = await undisturbed();
    assertEquals(again.steps(), whole.steps.slice(from));
    assertEquals(stored(again, 20), whole.stored);
  } finally {
    await again.close();
  }
}

Deno.test("gradients that are not finite three times in a row stop the run, and no weight is changed by them", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    const outcome = await mesh.run(smallRecipe({ stages: 2, learningRate: 1e30, checkpointEvery: 1 }));
    assert(outcome.event === "stopped" && outcome.why === "failed");
    assertEquals(outcome.name, "NotFinite");
    assertStringIncludes(outcome.reason, "3 steps in a row");
    const steps = mesh.events.flatMap((event) => event.event === "step" ? [event] : []);
    const committed = steps.filter((step) => step.committed).length;
    assertEquals(steps.slice(-3).map((step) => step.committed), [false, false, false]);
    assertEquals(outcome.path, `/runs/small/checkpoints/step-${String(steps.length - 1).padStart(6, "0")}`);
    assertStringIncludes(outcome.resume!, "--resume");
    const saved = (step: number) => stored(mesh, step).moments.length;
    assertEquals(saved(committed), saved(steps.length - 1));
  } finally {
    await mesh.close();
  }
});

Deno.test("one step whose gradient is not finite is skipped, counted and named", async () => {
  const name = "model.norm.weight";
  const mesh = await smallMesh("reference", 1, {
    wrap: (compute) =>
      altering(compute, (n, result) => ({
        ...result,
        tensors: result.tensors.map((t) =>
          n === 5 && t.name === name ? { name, sum: NaN, finite: false } : t
        ),
      })),
  });
  try {
    const outcome = await mesh.run(smallRecipe());
    assert(outcome.event === "done");
    assertEquals(outcome.position.committed, 19);
    const skipped = mesh.events.flatMap((e) =>
      e.event === "step" && !e.committed ? [[e.step, e.broken, e.norm]] : []
    );
    assertEquals(skipped, [[5, [name], null]]);
  } finally {
    await mesh.close();
  }
});

Deno.test("a worker that dies stops the run with the last checkpoint, from which it goes on exactly", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    const outcome = await broken(mesh, { stages: 2, checkpointEvery: 5 }, 7, () => {
      queueMicrotask(() => mesh.workers.get("w1")!.channel.sever("the process is gone"));
    });
    assertEquals([outcome.why, outcome.name], ["failed", "WorkerFailed"]);
    assertStringIncludes(outcome.reason, "w1 left: the process is gone.");
    assertEquals(outcome.path, "/runs/small/checkpoints/step-000005");
    assertEquals(outcome.resume, "volary run recipe.toml --resume");
    assertEquals(mesh.coordinator.members.map((member) => member.id), ["w0"]);
    await assertRejects(() => mesh.run(smallRecipe({ stages: 2 }), true), PlanInfeasible, "start 1 more");
    await resumesExactly(mesh, 5);
  } finally {
    await mesh.close();
  }
});

Deno.test("a worker that says goodbye is asked for what it holds first", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    let left: Promise<void> | undefined;
    const outcome = await broken(mesh, { stages: 2, checkpointEvery: 0 }, 7, () => {
      left = mesh.workers.get("w1")!.worker.leave("its user ended it");
    });
    await left;
    assertStringIncludes(outcome.reason, "w1 left: its user ended it.");
    const saved = Number(outcome.path!.match(/step-(\d+)/)![1]);
    assert(saved >= 7);
    await resumesExactly(mesh, saved);
  } finally {
    await mesh.close();
  }
});

Deno.test("a message that is not valid ends its sender's connection and the run, not the coordinator", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    const outcome = await broken(mesh, { stages: 2 }, 3, () => {
      const { channel } = mesh.workers.get("w1")!;
      channel.send(encodeMessage({ type: "vote", generation: 1, round: "three" }));
    });
    assertStringIncludes(outcome.reason, "w1 left: A message is not valid");
    assertEquals(mesh.coordinator.members.map((member) => member.id), ["w0"]);
    assertEquals(mesh.coordinator.status().run?.active, false);
  } finally {
    await mesh.close();
  }
});

const lies: [what: string, change: (result: Finished) => Finished, says: string][] = [
  ["a tensor is missing", (r) => ({ ...r, tensors: r.tensors.slice(1) }), "did not vote on"],
  ["a tensor twice", (r) => ({ ...r, tensors: [r.tensors[0], ...r.tensors] }), "there is a vote already"],
  [
    "a tensor of nobody",
    (r) => ({ ...r, tensors: [...r.tensors, { ...r.tensors[0], name: "x" }] }),
    "does not have",
  ],
  [
    "a microbatch too many",
    (r) => ({ ...r, losses: [{ ...r.losses[0], microbatch: 3 }] }),
    "microbatch 3 of 3",
  ],
];
for (const [what, change, says] of lies) {
  Deno.test(`a vote is refused: ${what}`, async () => {
    const mesh = await smallMesh("reference", 2, {
      wrap: (compute, worker) =>
        worker === "w1" ? altering(compute, (n, result) => n === 2 ? change(result) : result) : compute,
    });
    try {
      const outcome = await broken(mesh, { stages: 2 }, -1, () => {});
      assertStringIncludes(outcome.reason, "Worker w1 broke the protocol");
      assertStringIncludes(outcome.reason, says);
    } finally {
      await mesh.close();
    }
  });
}

Deno.test("what cannot be run is told before anything is written", async () => {
  const mesh = await smallMesh("reference", 2);
  try {
    const good = smallRecipe({ stages: 2 });
    const cases: [string, new (...args: never[]) => Error, string][] = [
      [smallRecipe({ stages: 9 }), PlanInfeasible, "3 layers"],
      [smallRecipe({ stages: 2, hosts: 1 }), PlanInfeasible, "start 1 more"],
      [good.replace("batch = 6", "batch = 7"), RecipeError, "divides by"],
      [good.replace("sequence = 12", "sequence = 12000"), TextError, "one sample needs"],
      [good.replace("a.txt", "b.txt"), TextError, "no such file"],
      [good.replace("[model]", "[model]\nvocab_size = 100"), TokenizerError, "259"],
      [good.replace("num_experts_per_tok = 2", "num_experts_per_tok = 5"), Error, "5 experts"],
    ];
    for (const [recipe, type, says] of cases) {
      await assertRejects(() => mesh.run(recipe), type as never, says);
    }
    await assertRejects(() => mesh.run(good, true), JournalError, "no run in /runs/small to resume");
    assertEquals([...mesh.storage.files.keys()], ["/a.txt"]);
  } finally {
    await mesh.close();
  }
});

Deno.test("a run is neither overwritten nor resumed with another recipe, and a coordinator runs one at a time", async () => {
  const mesh = await smallMesh("reference", 1);
  try {
    const recipe = smallRecipe({ steps: 4 });
    let second: Promise<unknown> | undefined;
    await mesh.run(recipe, false, (event: RunEvent) => {
      if (event.event === "step" && event.step === 1) {
        second = assertRejects(() => mesh.run(recipe), Error, "under way");
      }
    });
    await second;
    await assertRejects(() => mesh.run(recipe), JournalError, "--resume");
    const other = recipe.replace("hidden_size = 16", "hidden_size = 32");
    await assertRejects(() => mesh.run(other, true), RecipeError, "hidden_size (was 16)");
    // With more steps it goes on; with the same there is nothing left but to say where the model is.
    assertEquals((await mesh.run(recipe, true)).event, "done");
    const longer = await mesh.run(smallRecipe({ steps: 6 }), true);
    assert(longer.event === "done" && longer.position.committed === 6);
  } finally {
    await mesh.close();
  }
});
