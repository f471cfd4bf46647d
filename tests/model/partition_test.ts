import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Device } from "../../kernels/mod.ts";
import type { Stage } from "../../mesh/plan.ts";
import { TensorTooLargeError } from "../../model/layout.ts";
import { devices } from "./devices.ts";
import { EXPERTS, type Outcome, run, SMALL } from "./small_run.ts";

/** Stages of the workers over equal spans of three layers; `hosts` gives the host of each expert, by layer. */
function stages(
  workers: readonly string[],
  bounds: readonly number[],
  hosts: (layer: number, own: string) => string[],
): Stage[] {
  return workers.map((worker, i) => ({
    worker,
    from: bounds[i],
    to: bounds[i + 1],
    embedding: i === 0,
    head: i === workers.length - 1,
    experts: Array.from({ length: bounds[i + 1] - bounds[i] }, (_, l) => hosts(bounds[i] + l, worker)),
  }));
}

const none = () => [];
const own = (_: number, worker: string) => Array<string>(4).fill(worker);
/** Own experts, those of two hosts, and those of another stage, mixed differently in each layer. */
const spread = (layer: number, worker: string) =>
  [["host1", worker, "host2", "host1"], ["host2", "host1", "host2", "host1"], [
    "a",
    "host1",
    worker,
    "a",
  ]][layer];

/** The same device with a smaller limit, in bytes. */
function limited(device: Device, maxBinding: number): Device {
  return new Proxy(device, {
    get(target, key) {
      if (key === "info") return { ...target.info, maxBinding };
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const same = (actual: Outcome, expected: Outcome) => {
  assertEquals(actual.steps, expected.steps);
  assertEquals(actual.evaluated, expected.evaluated);
  assertEquals(actual.weights, expected.weights);
};

for (const { kind, device } of devices) {
  for (
    const [name, model, tied] of [
      ["experts", { ...SMALL, ...EXPERTS }, false],
      ["experts, tied", { ...SMALL, ...EXPERTS, tie_word_embeddings: true }, true],
      ["a shared expert", { ...SMALL, ...EXPERTS, shared_expert_intermediate_size: 10 }, false],
      ["a ladder residual, a shared expert, tied", {
        ...SMALL,
        ...EXPERTS,
        shared_expert_intermediate_size: 10,
        tie_word_embeddings: true,
        ladder_residual: true,
      }, true],
      ["dense, tied", { ...SMALL, tie_word_embeddings: true }, true],
    ] as const
  ) {
    const moe = "num_local_experts" in model;
    const at = moe ? own : none;

    Deno.test(`${kind}: ${name}: stages, hosts and recomputation change no bit`, async () => {
      const whole = await run(device, { model, stages: stages(["a"], [0, 3], at), steps: 3 });
      assert(whole.steps.every(({ ce }) => Number.isFinite(ce) && ce > 0));
      assertNotEquals(whole.steps[0].ce, whole.steps[2].ce);
      if (tied) assert(!whole.weights.has("lm_head.weight"));

      const splits: Record<string, Stage[]> = {
        "two stages": stages(["a", "b"], [0, 1, 3], at),
        "three stages": stages(["a", "b", "c"], [0, 1, 2, 3], at),
        "two stages on one worker": stages(["a", "a"], [0, 2, 3], at),
      };
      if (moe) {
        splits["one stage, two hosts"] = stages(["a"], [0, 3], spread);
        splits["two stages, two hosts"] = stages(["a", "b"], [0, 2, 3], spread);
      }
      for (const [split, planned] of Object.entries(splits)) {
        for (const recompute of [false, true]) {
          const part = await run(device, { model, stages: planned, steps: 3, recompute, pipelined: true });
          try {
            same(part, whole);
          } catch (error) {
            throw new Error(
              `${split}${recompute ? ", recomputed" : ""}: ${(error as Error).message.slice(0, 2000)}`,
            );
          }
        }
      }
      same(await run(device, { model, stages: stages(["a"], [0, 3], at), steps: 3, recompute: true }), whole);
    });
  }

  Deno.test(`${kind}: requests of peers between the halves of an own pass change no bit`, async () => {
    const model = { ...SMALL, ...EXPERTS };
    const whole = await run(device, { model, stages: stages(["a"], [0, 3], own), steps: 2 });
    const mutual = (layer: number, worker: string) =>
      layer < 2 ? ["b", worker, "b", "b"] : ["a", "a", worker, "a"];
    // A pass that waits for rows goes on when another pass waits as well, or after a while where none will.
    let waiting: (() => void) | undefined, met = 0;
    const part = await run(device, {
      model,
      stages: stages(["a", "b"], [0, 2, 3], mutual),
      steps: 2,
      pipelined: true,
      onExchange: async () => {
        if (waiting !== undefined) {
          met++;
          return waiting();
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 30);
          waiting = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        waiting = undefined;
      },
    });
    assert(met > 4, `only ${met} exchanges met another`);
    same(part, whole);
  });

  Deno.test(`${kind}: a small limit of bindings splits allocations and changes no bit`, async () => {
    const model = { ...SMALL, ...EXPERTS };
    const given = { model, stages: stages(["a"], [0, 3], own), steps: 2 };
    const whole = await run(device, given);
    same(await run(limited(device, 8192), given), whole);
    await assertRejects(() => run(limited(device, 4096), given), TensorTooLargeError, "experts.0.w1.weight");
  });

  for (const ladder of [false, true]) {
    Deno.test(`${kind}: memory stays flat over 30 steps${ladder ? ", ladder residual" : ""}`, async () => {
      const model = {
        ladder_residual: ladder,
        ...SMALL,
        ...EXPERTS,
        shared_expert_intermediate_size: 10,
        tie_word_embeddings: true,
      };
      const used: number[] = [], held: number[] = [];
      await run(device, {
        model,
        stages: stages(["a", "b"], [0, 2, 3], spread),
        steps: 30,
        recompute: true,
        pipelined: true,
        afterStep: () => {
          used.push(device.memory().used);
          held.push(device.memory().held);
        },
      });
      assertEquals(new Set(used).size, 1, `used: ${used}`);
      assert(held[29] <= held[4] * 1.05, `held: ${held}`);
      assertEquals(device.memory().used, 0);
    });
  }
}
