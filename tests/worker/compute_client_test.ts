/** The device on its own thread: calls, exchanges, errors by name, and what happens when the thread dies. */
import { assertEquals, assertRejects } from "@std/assert";
import { NoAdapterError } from "../../kernels/errors.ts";
import { openComputeThread, type Thread } from "../../worker/compute_client.ts";
import type { Exchange } from "../../worker/compute.ts";
import { type FromThread, ThreadError, type ToThread, transfers } from "../../worker/thread_protocol.ts";
import { sliceFor } from "../../mesh/plan.ts";
import { stagesOfTwo, tinyPlan, twoStages } from "./small_mesh.ts";

const never = () => Promise.reject(new Error("no exchange was expected"));

/** A thread played by the test. */
class ScriptedThread implements Thread {
  onmessage: Thread["onmessage"] = null;
  onerror: Thread["onerror"] = null;
  onmessageerror: Thread["onmessageerror"] = null;
  terminated = false;
  readonly heard: ToThread[] = [];

  constructor(private readonly answer: (message: ToThread, thread: ScriptedThread) => void) {}

  postMessage(message: ToThread): void {
    this.heard.push(message);
    queueMicrotask(() => this.answer(message, this));
  }

  say(message: FromThread): void {
    this.onmessage?.(new MessageEvent("message", { data: message }));
  }

  terminate(): void {
    this.terminated = true;
  }
}

Deno.test("a thread with the plain-array device loads a slice, keeps words and says what is wrong by name", async () => {
  const compute = await openComputeThread({ device: "reference", memory: 1 << 28 }, never);
  try {
    const profile = await compute.profile();
    assertEquals([profile.device, profile.memory], ["reference", 1 << 28]);
    const plan = tinyPlan({ stages: stagesOfTwo(), operations: twoStages() });
    const held = await compute.load(sliceFor(plan, "a"));
    assertEquals(held[0].name, "model.embed_tokens.weight");
    await compute.put(held[0].name, "weight", 3, new Float32Array([1, 2]));
    assertEquals([...(await compute.get(held[0].name, "weight", 3, 2))], [1, 2]);
    await assertRejects(
      () => compute.forward({ stage: 1, microbatch: 0, mode: "train", validLabels: 1 }),
      ThreadError,
    );
  } finally {
    compute.close();
  }
  await assertRejects(() => compute.busy(), Error, "closed");
});

Deno.test("a device that cannot be opened rejects with its own error's name", async () => {
  const thread = new ScriptedThread((_message, thread) =>
    thread.say({ type: "refused", error: { name: "NoAdapterError", message: "There is no WebGPU adapter" } })
  );
  const error = await assertRejects(
    () => openComputeThread({ device: "webgpu" }, never, thread),
    NoAdapterError,
    "There is no WebGPU adapter",
  );
  assertEquals([error.name, thread.terminated], ["NoAdapterError", true]);
});

Deno.test("when the thread dies every pending and later call rejects", async () => {
  const thread = new ScriptedThread((message, thread) => {
    if (message.type === "open") thread.say({ type: "opened" });
  });
  const compute = await openComputeThread({ device: "auto" }, never, thread);
  const pending = compute.finish();
  thread.onerror!(new ErrorEvent("error", { message: "out of luck", cancelable: true }));
  const first = await assertRejects(() => pending, Error, "The compute thread stopped: out of luck");
  assertEquals([first.name, thread.terminated], ["ComputeThreadError", true]);
  await assertRejects(() => compute.busy(), Error, "out of luck");
});

Deno.test("what was found out about a device is told, and where to begin goes with it", async () => {
  const thread = new ScriptedThread((message, thread) => {
    if (message.type !== "open") return;
    thread.say({ type: "opened" });
    thread.say({ type: "tuned", known: `after ${message.options.tuning?.known}` });
    thread.say({ type: "measured", known: `as fast as ${message.options.speeds?.known}` });
  });
  const told: string[] = [];
  await openComputeThread(
    { device: "auto", tuning: { known: "before" }, speeds: { known: "then", beside: "" } },
    never,
    thread,
    (what, text) => told.push(`${what} ${text}`),
  );
  while (told.length < 2) await Promise.resolve();
  assertEquals(told, ["tuned after before", "measured as fast as then"]);
});

Deno.test("exchanges reach the exchanger and come back, and its failure reaches the thread", async () => {
  const exchange: Exchange = { layer: 3, microbatch: 1, pass: "forward", mode: "train", parts: [] };
  const thread = new ScriptedThread((message, thread) => {
    if (message.type === "open") {
      thread.say({ type: "opened" });
      thread.say({ type: "exchange", id: 0, exchange });
      thread.say({ type: "exchange", id: 1, exchange: { ...exchange, layer: 4 } });
    }
  });
  const rows = [new Float32Array([5]).buffer];
  await openComputeThread({ device: "auto" }, ({ layer }) => {
    if (layer === 4) throw new RangeError("no such host");
    return Promise.resolve(rows);
  }, thread);
  while (thread.heard.length < 3) await Promise.resolve();
  const heard = new Map(thread.heard.map((message) => [message.type, message]));
  assertEquals(heard.get("exchanged"), { type: "exchanged", id: 0, rows });
  const failed = heard.get("exchange-failed");
  assertEquals(failed?.type === "exchange-failed" && [failed.id, failed.error.name, failed.error.message], [
    1,
    "RangeError",
    "no such host",
  ]);
});

Deno.test("tensors are handed over, small arrays and views of larger buffers are copied", () => {
  const whole = new Float32Array(4), rows = new ArrayBuffer(8), counts = new Uint32Array(2);
  const parts = [{ host: "b", counts, rows }, { host: "c", counts, rows }];
  assertEquals(transfers({ parts, whole, view: new Float32Array(8).subarray(2) }), [rows, whole.buffer]);
});
