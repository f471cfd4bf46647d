/** The worker as a coordinator sees it: hello, refusal, foreign generations, pulls after decisions, leaving. */
import { assertEquals, assertRejects } from "@std/assert";
import { DeviceLostError } from "../../kernels/errors.ts";
import { type Control, control } from "../../mesh/control/control.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { limits } from "../../mesh/limits.ts";
import { memoryChannelPair, MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { FromCoordinator, FromWorker, type Lent } from "../../mesh/control/messages.ts";
import type { Chance, Clock } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { sliceFor } from "../../mesh/plan.ts";
import { RefusedError } from "../../worker/errors.ts";
import type { WorkerEvent } from "../../worker/events.ts";
import { startWorker } from "../../worker/worker.ts";
import { FAKE_WORDS, FakeCompute } from "./fake_compute.ts";
import { clock, decision, tinyPlan, zeros } from "./small_mesh.ts";

const identity = await newIdentity();

/** A worker on a fake device, and the coordinator's end of its connection. */
function worker(compute = new FakeCompute(), lent?: Lent, time: Clock & Chance = clock) {
  const [ours, theirs] = memoryChannelPair({ maxMessage: limits.messageBytes });
  const coordinator: Control<FromWorker, FromCoordinator> = control(ours, FromWorker, time);
  const events: WorkerEvent[] = [], said: FromWorker[] = [];
  const waiting: (() => void)[] = [];
  coordinator.onmessage = (message) => {
    said.push(message as FromWorker);
    waiting.splice(0).forEach((look) => look());
  };
  coordinator.onpull = ({ length }) => Promise.resolve(new Uint8Array(length * 4));
  const running = startWorker({
    clock: time,
    transport: new MemoryHub(time).transport(),
    control: control<typeof FromCoordinator, FromWorker>(theirs, FromCoordinator, time),
    compute: (exchanger) => {
      compute.exchanger = exchanger;
      return Promise.resolve(compute);
    },
    chance: time,
    identity,
    coordinator: identity.publicKey,
    name: "a",
    software: "test 1",
    memory: 1 << 20,
    lent,
    onevent: (event) => events.push(event),
  });
  const heard = async (type: FromWorker["type"], count = 1) => {
    while (said.filter((message) => message.type === type).length < count) {
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    return said.filter((message) => message.type === type).at(-1)!;
  };
  return { running, coordinator, compute, events, said, heard };
}

const delegation = { notBefore: 0, notAfter: 1, signature: new Uint8Array(64) };
const stages = [{ worker: "a", from: 0, to: 1, embedding: true, head: true, experts: [[]] }];
const plan = (generation: number) =>
  tinyPlan({ stages, operations: { a: { train: [{ do: "vote" }], evaluate: [] } }, generation });
const assign = (generation: number) =>
  ({
    type: "assign",
    slice: sliceFor(plan(generation), "a"),
    moments: false,
    outer: false,
    delegation,
  }) as const;
const round = (generation: number, round: number) =>
  ({
    type: "round",
    generation,
    round,
    mode: "train",
    validLabels: 12,
    ids: zeros(),
    labels: zeros(),
  }) as const;
Deno.test("a worker says hello with its name and profile, within the memory that it lends", async () => {
  const { heard, coordinator, running, compute } = worker();
  const hello = await heard("hello");
  assertEquals(hello.type === "hello" && [hello.name, hello.software], ["a", "test 1"]);
  assertEquals(hello.type === "hello" && hello.profile.memory, 1 << 20);
  coordinator.close("enough");
  assertEquals(await running.ended, "enough");
  assertEquals(compute.calls, ["close"]);
});

Deno.test("a share that is lent is said, and speeds are those of the share", async () => {
  const { heard, coordinator } = worker(new FakeCompute(), { share: 0.25, sending: 1e6 });
  const hello = await heard("hello");
  assertEquals(hello.type === "hello" && [hello.profile.flops, hello.profile.bandwidth], [0.25e9, 0.25e9]);
  assertEquals(hello.type === "hello" && hello.profile.lent, { share: 0.25, sending: 1e6 });
  coordinator.close("enough");
});

Deno.test("a worker leaves in good order at the time until which it is lent", async () => {
  const clock = new VirtualClock(), until = clock.wall() + 60_000;
  const { heard, coordinator, running } = worker(new FakeCompute(), { until }, clock);
  await clock.until(heard("hello"));
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(1));
  await clock.until(heard("linked"));
  const leaving = await clock.until(heard("leaving"));
  assertEquals(clock.wall(), until);
  assertEquals(leaving.type === "leaving" && leaving.reason, "the time for which it was lent is over");
  coordinator.send({ type: "stop", generation: 1, reason: "saved" });
  assertEquals(await clock.until(running.ended), "the time for which it was lent is over");
});

Deno.test("a refusal ends the worker with the coordinator's reason", async () => {
  const { heard, coordinator, running } = worker();
  await heard("hello");
  coordinator.send({ type: "refused", reason: "the invite has expired" });
  await assertRejects(() => running.ended, RefusedError, "the invite has expired");
});

Deno.test("a coordinator that gives work before it says welcome is left", async () => {
  const { heard, coordinator, running } = worker();
  await heard("hello");
  coordinator.send(assign(1));
  assertEquals(await running.ended, "the coordinator spoke before it said welcome");
});

Deno.test("a device that cannot be opened ends the worker with its error", async () => {
  const compute = new FakeCompute();
  compute.profile = () => Promise.reject(new Error("no adapter"));
  await assertRejects(() => worker(compute).running.ended, Error, "no adapter");
});

Deno.test("messages of other generations are dropped and counted; a newer plan replaces the old one", async () => {
  const { heard, coordinator, running, compute, events } = worker();
  await heard("hello");
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(3));
  await heard("linked");
  coordinator.send({ type: "start", generation: 2 });
  coordinator.send(round(2, 0));
  coordinator.send(assign(3));
  coordinator.send(assign(2));
  coordinator.send({ type: "stop", generation: 4, reason: "not ours" });
  coordinator.send({ type: "start", generation: 3 });
  coordinator.send(round(3, 0));
  await heard("vote");
  assertEquals(running.dropped().generation, 5);
  coordinator.send(assign(5));
  await heard("linked", 2);
  assertEquals(compute.calls.filter((call) => call.startsWith("load")), ["load 3", "load 5"]);
  assertEquals(events.map(({ type }) => type).filter((type) => type !== "loading"), [
    "profiled",
    "joined",
    "assigned",
    "linked",
    "round",
    "assigned",
    "linked",
  ]);
  coordinator.close();
  await running.ended;
});

Deno.test("what is pulled right behind a decision are the weights after its step", async () => {
  const slow = Promise.withResolvers<void>();
  const { heard, coordinator, running } = worker(
    new FakeCompute({ before: (call) => call.startsWith("step") ? slow.promise : undefined }),
  );
  await heard("hello");
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(1));
  await heard("linked");
  coordinator.send({ type: "start", generation: 1 });
  coordinator.send(round(1, 6));
  await heard("vote");
  coordinator.send(decision(1, 6));
  const pulled = coordinator.pull({ tensor: "of a", part: "weight", start: 0, length: FAKE_WORDS });
  setTimeout(slow.resolve, 5);
  assertEquals([...new Float32Array((await pulled).slice().buffer)], new Array(FAKE_WORDS).fill(7));
  coordinator.close();
  await running.ended;
});

Deno.test("a decision that nobody waits for fails the generation, and the worker stays for the next", async () => {
  const { heard, coordinator, running } = worker();
  await heard("hello");
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(1));
  await heard("linked");
  coordinator.send({ type: "start", generation: 1 });
  coordinator.send(decision(1, 0));
  const failed = await heard("failed");
  assertEquals(
    failed.type === "failed" && failed.reason,
    "A decision came for round 0, which did not wait for one",
  );
  coordinator.send(assign(2));
  await heard("linked", 2);
  coordinator.close();
  await running.ended;
});

Deno.test("a device that is lost ends the worker, and the coordinator hears why", async () => {
  const { heard, coordinator, running } = worker(
    new FakeCompute({
      before: (call) => {
        if (call === "finish") throw new DeviceLostError("The driver was reset");
      },
    }),
  );
  await heard("hello");
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(1));
  await heard("linked");
  coordinator.send({ type: "start", generation: 1 });
  coordinator.send(round(1, 0));
  const failed = await heard("failed");
  assertEquals(failed.type === "failed" && failed.reason, "The driver was reset");
  await assertRejects(() => running.ended, DeviceLostError);
});

Deno.test("leaving: said to the coordinator, over when it lets go; at once where there is no work", async () => {
  const { heard, coordinator, running, said } = worker();
  await heard("hello");
  coordinator.send({ type: "welcome", id: "a", run: "test" });
  coordinator.send(assign(1));
  await heard("linked");
  const left = running.leave("its user ended it");
  await heard("leaving");
  const pulled = await coordinator.pull({ tensor: "of a", part: "weight", start: 0, length: 2 });
  assertEquals(pulled.length, 8, "what it holds can still be saved");
  coordinator.send({ type: "stop", generation: 1, reason: "saved" });
  await left;
  assertEquals(said.at(-1)!.type, "leaving");

  const idle = worker();
  await idle.heard("hello");
  await idle.running.leave("changed its mind");
  assertEquals(idle.said.map(({ type }) => type), ["hello"]);
});
