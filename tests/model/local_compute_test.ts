import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import type { Slice } from "../../mesh/plan.ts";
import { Lease, LeaseOverError } from "../../model/lease.ts";
import { loadFresh, step } from "../on_device.ts";
import { LocalCompute } from "../../worker/local_compute.ts";
import { devices } from "./devices.ts";
import { EXPERTS, SMALL } from "./small_run.ts";

const model = { ...SMALL, ...EXPERTS };
const TOKENS = 2 * 5;
const ids = Uint32Array.from({ length: TOKENS }, (_, i) => i % SMALL.vocab_size);

/** A worker that holds everything but the experts of layer 1, which `host` has. */
function slice(host: string): Slice {
  const experts = [0, 1, 2].map((layer) => Array<string>(4).fill(layer === 1 ? host : "me"));
  return {
    run: "test",
    generation: 1,
    model,
    shape: { batch: 2, sequence: 5, microbatches: 1 },
    stages: [{ worker: "me", from: 0, to: 3, embedding: true, head: true, experts }],
    recompute: false,
    self: "me",
    operations: { train: [], evaluate: [] },
  };
}

const forward = { stage: 0, microbatch: 0, mode: "train" as const, ids, labels: ids, validLabels: TOKENS };

for (const { kind, device } of devices) {
  const open = (exchanger: ConstructorParameters<typeof LocalCompute>[0]["exchanger"]) =>
    new LocalCompute({ device: new Lease(device), exchanger, now: () => performance.now(), memory: 1e9 });
  const alone = () => Promise.reject(new Error("nobody is asked"));

  Deno.test(`${kind}: a device that is lent in part computes the same and rests as long as it must`, async () => {
    const rests: number[] = [], answers: ArrayBuffer[][] = [];
    const rest = (ms: number) => Promise.resolve(void rests.push(ms));
    for (const duty of [undefined, { share: 0.25, rest }]) {
      let now = 0;
      const compute = new LocalCompute({
        device: new Lease(device),
        exchanger: alone,
        now: () => now++,
        memory: 1e9,
        duty,
      });
      await loadFresh(compute, slice("me"));
      await compute.forward(forward);
      await compute.backward(0, 0);
      await compute.finish();
      await compute.step(step);
      answers.push([(await compute.get("lm_head.weight", "weight", 0, 40)).buffer]);
      compute.close();
    }
    assertEquals(answers[1], answers[0]);
    assert(rests.length >= 5 && rests.every((ms) => ms > 0 && ms % 3 === 0), `${rests}`);
  });

  Deno.test(`${kind}: a gradient that is not finite is reported by name, and nothing is stepped`, async () => {
    const compute = open(alone);
    const name = "model.layers.2.post_attention_layernorm.weight";
    await loadFresh(compute, slice("me"));
    await compute.put(name, "weight", 3, Float32Array.of(NaN));
    const before = await compute.get("lm_head.weight", "weight", 0, 40);
    await compute.forward(forward);
    await compute.backward(0, 0);
    const { losses, tensors } = await compute.finish();
    assertEquals(losses.length, 1);
    assertEquals(tensors.map((tensor) => tensor.name).includes(name), true);
    assertEquals(tensors.find((tensor) => tensor.name === "lm_head.weight")?.finite, false);
    await compute.step({ ...step, commit: false });
    assertEquals(await compute.get("lm_head.weight", "weight", 0, 40), before);
    // The gradients are zero again: the next round is not poisoned.
    await compute.put(name, "weight", 3, Float32Array.of(1));
    await compute.forward(forward);
    await compute.backward(0, 0);
    const again = await compute.finish();
    assert(again.tensors.every((tensor) => tensor.finite && Number.isFinite(tensor.sum)));
    await compute.step(step);
    assert((await compute.get("lm_head.weight", "weight", 0, 40)).some((word, i) => word !== before[i]));
    compute.close();
    assertEquals(device.memory().used, 0);
  });

  Deno.test(`${kind}: a pass that lost its host fails, and loading again leaves nothing behind`, async () => {
    const compute = open(() => Promise.reject(new Error("the host is gone")));
    await loadFresh(compute, slice("host"));
    const used = device.memory().used;
    await assertRejects(() => compute.forward(forward), Error, "the host is gone");
    assertGreater(device.memory().used, used);
    await loadFresh(compute, slice("host"));
    assertEquals(device.memory().used, used);
    compute.close();
  });

  Deno.test(`${kind}: a pass that wakes up after the plan changed touches nothing`, async () => {
    const asked = Promise.withResolvers<void>(), wake = Promise.withResolvers<void>();
    const compute = open(async ({ parts }) => {
      asked.resolve();
      await wake.promise;
      return parts.map((part) => part.rows);
    });
    await loadFresh(compute, slice("host"));
    const waiting = compute.forward(forward);
    waiting.catch(() => {});
    await asked.promise;
    await compute.load(slice("me"));
    wake.resolve();
    await assertRejects(() => waiting, LeaseOverError);
    compute.close();
    assertEquals(device.memory().used, 0);
  });

  Deno.test(`${kind}: requests that do not fit are refused`, async () => {
    const compute = open(alone);
    await loadFresh(compute, slice("me"));
    const rows = new ArrayBuffer(2 * SMALL.hidden_size * 4);
    const request = { layer: 1, microbatch: 0, pass: "forward" as const, mode: "train" as const };
    const part = { counts: Uint32Array.of(0, 1, 1, 0), rows };
    assertEquals((await compute.host({ ...request, part })).byteLength, rows.byteLength);
    await assertRejects(() => compute.host({ ...request, part }), Error, "twice");
    await assertRejects(() => compute.host({ ...request, layer: 7, part }), Error, "layer 7");
    const short = { counts: Uint32Array.of(0, 1, 2, 0), rows };
    await assertRejects(() => compute.host({ ...request, microbatch: 1, part: short }), Error, "do not fit");
    await assertRejects(
      () => compute.host({ ...request, pass: "backward", microbatch: 1, part }),
      Error,
      "no rows went forward",
    );
    await assertRejects(() => compute.backward(0, 0), Error, "without a forward pass");
    await assertRejects(
      () => compute.forward({ ...forward, ids: ids.map((id) => id + 30) }),
      RangeError,
      "vocabulary",
    );
    compute.close();
  });

  Deno.test(`${kind}: the profile is measured, and busy time is counted once`, async () => {
    const compute = open(alone);
    const profile = await compute.profile();
    assertEquals(profile.device, kind);
    assertGreater(profile.flops, 1e7);
    assertGreater(profile.bandwidth, 1e7);
    assertGreater(await compute.busy(), 0);
    assertEquals(await compute.busy(), 0);
    compute.close();
    assertEquals(device.memory().used, 0);
  });
}
