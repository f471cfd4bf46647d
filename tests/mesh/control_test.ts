import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { encodeMessage } from "../../mesh/control/codec.ts";
import { type Control, control } from "../../mesh/control/control.ts";
import { LinkError } from "../../mesh/errors.ts";
import { limits } from "../../mesh/limits.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { FromCoordinator, FromWorker } from "../../mesh/control/messages.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { clean } from "../compliance/clean.ts";

type AtCoordinator = Control<FromWorker, FromCoordinator>;
type AtWorker = Control<FromCoordinator, FromWorker>;

function ends(): { clock: VirtualClock; coordinator: AtCoordinator; worker: AtWorker; sever: () => void } {
  const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock, latencyMs: 10, maxMessage: 1 << 28 });
  return {
    clock,
    coordinator: control(x, FromWorker, clock),
    worker: control(y, FromCoordinator, clock),
    sever: () => x.sever(),
  };
}

const piece = (start: number, length: number) =>
  new Uint8Array(Float32Array.from({ length }, (_, i) => start + i).buffer);

Deno.test("messages arrive in order, also those that came before their handler", clean, async () => {
  const { clock, coordinator, worker } = ends();
  for (let generation = 0; generation < 5; generation++) assert(worker.send({ type: "linked", generation }));
  await clock.pass(2_000);
  const got: number[] = [];
  coordinator.onmessage = (message) => message.type === "linked" && got.push(message.generation);
  worker.send({ type: "linked", generation: 5 });
  await clock.pass(20);
  assertEquals(got, [0, 1, 2, 3, 4, 5]);
  assertEquals(worker.counters.roundTrip, 20);
  worker.close("enough");
  assertEquals(await clock.until(coordinator.closed), "enough");
  assertEquals(worker.send({ type: "linked", generation: 6 }), false);
  await clock.idle(10_000);
});

Deno.test("an invalid message closes the connection, says why and is counted", clean, async () => {
  const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock });
  const coordinator: AtCoordinator = control(x, FromWorker, clock);
  y.onmessage = () => {};
  y.send(encodeMessage({ type: "loaded", generation: 0.5, bytes: 1 }));
  assertStringIncludes(await clock.until(y.closed), "generation");
  assertEquals(coordinator.counters.invalid, 1);
});

Deno.test("a stranger's message must be small", clean, async () => {
  const { clock, coordinator, worker } = ends();
  coordinator.maxBytes = limits.strangerBytes;
  worker.send({ type: "chunk", id: 0, bytes: new Uint8Array(limits.strangerBytes) });
  assertStringIncludes(await clock.until(worker.closed), "65536");
  assertEquals(coordinator.counters.invalid, 1);
});

Deno.test("pulls come back each to its asker, both ways, a bounded number at once", clean, async () => {
  const { clock, coordinator, worker } = ends();
  let active = 0, most = 0;
  coordinator.onpull = async ({ tensor, start, length }) => {
    assertEquals(tensor, "w");
    most = Math.max(most, ++active);
    // Later ones answer sooner.
    await new Promise<void>((resolve) => clock.timer(100 - start % 100, resolve));
    active--;
    return piece(start, length);
  };
  worker.onpull = ({ start, length }) => Promise.resolve(piece(-start, length));
  const request = (start: number) => ({ tensor: "w", part: "m" as const, start, length: 3 });
  const pulls = Array.from({ length: 100 }, (_, start) => worker.pull(request(start)));
  const back = coordinator.pull(request(9));
  const got = await clock.until(Promise.all(pulls));
  got.forEach((bytes, start) =>
    assertEquals([...new Float32Array(bytes.buffer)], [start, start + 1, start + 2])
  );
  assertEquals(new Float32Array((await clock.until(back)).buffer)[0], -9);
  assertEquals(most, limits.pulls);
  worker.close();
  await clock.idle(10_000);
});

Deno.test("a pull ends with the connection, with a wrong answer, or without one", clean, async () => {
  const request = { tensor: "w", part: "weight" as const, start: 0, length: 2 };
  const gone = ends();
  gone.coordinator.onpull = () => new Promise(() => {});
  const lost = [gone.worker.pull(request), ...Array.from({ length: 30 }, () => gone.worker.pull(request))];
  await gone.clock.pass(50);
  gone.sever();
  for (const result of await gone.clock.until(Promise.allSettled(lost))) {
    assert(result.status === "rejected" && result.reason instanceof LinkError);
  }
  await assertRejects(() => gone.worker.pull(request), LinkError, "gone");

  const wrong = ends();
  wrong.coordinator.onpull = () => Promise.resolve(new Uint8Array(4));
  await assertRejects(() => wrong.clock.until(wrong.worker.pull(request)), LinkError, "4 bytes instead of 8");

  const never = ends();
  never.coordinator.onpull = () => new Promise(() => {});
  await assertRejects(() => never.clock.until(never.worker.pull(request)), LinkError, "30 s");
  assert(never.worker.send({ type: "leaving", reason: "" }), "the connection itself goes on");

  const none = ends();
  await assertRejects(() => none.clock.until(none.worker.pull(request)), LinkError, "can be pulled");
});

Deno.test("silence is suspected, then death", clean, async () => {
  const clock = new VirtualClock(), [x, y] = memoryChannelPair({ clock });
  const coordinator: AtCoordinator = control(x, FromWorker, clock);
  y.onmessage = () => {};
  let suspectedAt = NaN;
  coordinator.onsuspected = () => suspectedAt = clock.now();
  assertStringIncludes(await clock.until(coordinator.closed), "silent");
  assert(suspectedAt >= 1_000 && suspectedAt <= 1_500);
  assert(clock.now() >= 5_000 && clock.now() <= 5_500);
  await clock.idle(10_000);
});
