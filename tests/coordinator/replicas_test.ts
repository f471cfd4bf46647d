/** Replicas: unequal pipelines with unequal shares train as one worker that accumulates the same shares, bit for bit. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { quietDriver } from "../../cli/driver.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import type { MeshOptions } from "../mesh_in_memory.ts";
import { smallMesh, type SmallRecipe, smallRecipe, stored } from "./small_run.ts";

quietDriver();
type Kind = "webgpu" | "reference";

/** Trains and answers with everything that must be the same, and who held what. */
async function train(kind: Kind, workers: number, recipe: SmallRecipe, more: Partial<MeshOptions> = {}) {
  const mesh = await smallMesh(kind, workers, more);
  try {
    const { event } = await mesh.run(smallRecipe({ microbatches: 6, ...recipe }));
    assertEquals(event, "done", JSON.stringify(mesh.events.at(-1)));
    const evaluations = mesh.events.flatMap((e) => e.event === "evaluation" ? [e.nll] : []);
    const loads = mesh.events.flatMap((e) => e.event === "step" ? [e.load, e.balance, e.z] : []);
    const plan = mesh.events.find((e) => e.event === "plan")!;
    const parts = plan.event === "plan" ? plan.workers.map(({ replica }) => replica) : [];
    return {
      same: { steps: mesh.steps(), evaluations, loads, stored: stored(mesh, recipe.steps ?? 20) },
      parts,
    };
  } finally {
    await mesh.close();
  }
}

const two = "shares = [4, 2]", three = "shares = [3, 1, 2]";

// WebGPU in Deno keeps its thread while it waits, and here all devices share one: fewer steps and meshes do.
for (const [kind, steps] of [["reference", 20], ["webgpu", 3]] as const) {
  for (const tied of [false, true]) {
    Deno.test(`replicas = one worker on ${kind}, embedding and head ${tied ? "tied" : "apart"}`, async () => {
      const one = await train(kind, 1, { tied, mesh: two, steps });
      assert(one.same.steps.at(-1)!.loss! < one.same.steps[0].loss!, "it learns");
      // Two workers and one; two and two with experts on hosts; three and two.
      for (
        const [workers, mesh, parts] of [
          [2, two, [0, 1]],
          [3, two, [0, 0, 1]],
          [5, `${two}\nexpert_hosts = 1`, [0, 0, 0, 1, 1]],
        ] as const
      ) {
        if (kind === "webgpu" && (workers === 2 || (tied && workers === 3))) continue;
        const several = await train(kind, workers, { tied, mesh, steps });
        assertEquals(several.parts.toSorted(), [...parts], `${workers} workers`);
        assertEquals(several.same, one.same, `${workers} workers`);
      }
      const lone = await train(kind, 1, { tied, mesh: "shares = [6]", steps });
      assert(lone.same.stored.weights.some((byte, i) => byte !== one.same.stored.weights[i]), "shares count");
    });
  }

  Deno.test(`three replicas = one worker on ${kind}`, async () => {
    const steps = kind === "reference" ? 8 : 2;
    const one = await train(kind, 1, { mesh: three, steps });
    for (const workers of kind === "reference" ? [3, 5, 7] : [4]) {
      const several = await train(kind, workers, { mesh: three, steps });
      assertEquals(new Set(several.parts), new Set([0, 1, 2]));
      assertEquals(several.same, one.same, `${workers} workers`);
    }
    // Fewer pipelines than shares: the first takes two of them, its stages and hosts fold them in step.
    for (const mesh of [`${three}\nreplicas = 2`, `${three}\nreplicas = 2\nexpert_hosts = 1`]) {
      if (kind === "webgpu" && mesh.includes("hosts")) continue;
      const fewer = await train(kind, 5, { mesh, steps });
      assertEquals(fewer.same, one.same, mesh);
    }
  });
}

Deno.test("the order in which gradients arrive does not count", async () => {
  const one = await train("reference", 1, { mesh: three, steps: 3 });
  for (const order of [["w0", "w1", "w2"], ["w2", "w1", "w0"], ["w1", "w2", "w0"]]) {
    const several = await train("reference", 3, { mesh: three, steps: 3 }, {
      // Each worker's gradients and weights leave later than those of the one before it.
      wrap: (compute, worker) =>
        new Proxy(compute, {
          get(target, key) {
            const value = Reflect.get(target, key);
            if (key !== "read") return typeof value === "function" ? value.bind(target) : value;
            return async (...args: Parameters<typeof compute.read>) => {
              const words = await target.read(...args);
              await new Promise((resolve) => setTimeout(resolve, 15 * order.indexOf(worker)));
              return words;
            };
          },
        }),
    });
    assertEquals(several.same, one.same, order.join(" before "));
  }
});

Deno.test("weights that come back late: the next round has begun by then, and each layer waits for its own", async () => {
  for (
    const [workers, recipe] of [
      [2, { mesh: two, tied: true }],
      [3, { mesh: two, precision: "bf16" }],
      [5, { mesh: `${two}\nexpert_hosts = 1`, tied: true }],
      [5, { mesh: `${two}\nexpert_hosts = 1`, ladder: true, recompute: true }],
    ] as const
  ) {
    const one = await train("reference", 1, { ...recipe, mesh: two, steps: 4 });
    const calls: string[] = [];
    const several = await train("reference", workers, { ...recipe, steps: 4 }, {
      wrap: (compute, worker) =>
        new Proxy(compute, {
          get(target, key) {
            const value = Reflect.get(target, key);
            if (typeof value !== "function") return value;
            return async (...args: unknown[]) => {
              if (key === "write") await new Promise((resolve) => setTimeout(resolve, 4));
              if (["write", "forward", "finish"].includes(String(key))) {
                calls.push(`${String(key)} ${worker}`);
              }
              return await value.apply(target, args);
            };
          },
        }),
    });
    assertEquals(several.same, one.same, JSON.stringify(recipe));
    const early = [...new Set(calls.map((call) => call.split(" ")[1]))].filter((worker) =>
      / finish( forward)+ write /.test(
        calls.filter((call) => call.endsWith(` ${worker}`)).map((call) => ` ${call.split(" ")[0]}`).join("") +
          " ",
      )
    );
    assert(early.length > 0, "a pass begins before all weights are there");
  }
});

Deno.test("replicas over WebRTC, a tied embedding on both ends of a pipeline included", async () => {
  const transport = () => weriftTransport({ clock: denoRuntime(), loopback: true });
  const one = await train("reference", 1, { tied: true, mesh: two });
  const several = await train("reference", 3, { tied: true, mesh: two }, { transport });
  assertEquals(several.same, one.same);
});

Deno.test("a run of replicas goes on from a checkpoint on another mesh with the same shares", async () => {
  const whole = await train("reference", 1, { mesh: two });
  const first = await smallMesh("reference", 3);
  try {
    let asked: Promise<boolean> | undefined;
    await first.run(smallRecipe({ microbatches: 6, mesh: two }), false, (event) => {
      if (event.event === "step" && event.step === 10) asked = first.coordinator.stop();
    });
    await asked;
  } finally {
    await first.close();
  }
  const second = await smallMesh("reference", 2, { storage: first.storage });
  try {
    assertEquals((await second.run(smallRecipe({ microbatches: 6, mesh: two }), true)).event, "done");
    assertEquals(second.steps(), whole.same.steps.slice(10));
    assertEquals(stored(second, 20), whole.same.stored);
  } finally {
    await second.close();
  }
});

Deno.test("a step whose gradient is not finite in one replica is skipped by all", async () => {
  const broken = (worker: string) =>
    train("reference", 2, { mesh: two, steps: 3 }, {
      wrap: (compute, name) => {
        if (name !== worker) return compute;
        let round = 0;
        return new Proxy(compute, {
          get(target, key) {
            const value = Reflect.get(target, key);
            if (key === "backward") {
              return async (...args: Parameters<typeof compute.backward>) => {
                const dx = await target.backward(...args);
                if (round === 1) await target.addGradients(["model.norm.weight"], [], [nan]);
                return dx;
              };
            }
            if (key === "step") {
              return (decision: Parameters<typeof compute.step>[0]) => {
                round++;
                return target.step(decision);
              };
            }
            return typeof value === "function" ? value.bind(target) : value;
          },
        });
      },
    });
  const nan = new Float32Array(16).fill(NaN).buffer;
  const norms = (await broken("w1")).same.steps.map(({ norm }) => norm === null);
  assertEquals(norms, [false, true, false]);
});

Deno.test("shares and replicas that do not fit are refused with what to change", async () => {
  for (
    const [mesh, says] of [
      ["shares = [4, 1]", "come to 5 microbatches, but a step has 6"],
      ["shares = [4, 2]\nreplicas = 3", "3 replicas cannot share 2 shares"],
      ["replicas = 7", "cannot share 6 microbatches"],
      ["replicas = 3", "3 replicas need 3 workers, but 2 have joined"],
    ]
  ) {
    const small = await smallMesh("reference", 2);
    try {
      const error = await small.run(smallRecipe({ microbatches: 6, mesh })).then(() => undefined, (e) => e);
      assertEquals(error?.name, "PlanInfeasible");
      assertStringIncludes(error.message, says);
    } finally {
      await small.close();
    }
  }
});
