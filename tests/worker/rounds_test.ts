/** Rounds of scripted devices: the order of operations, what waits for what, and what is refused. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { Channel, Transport } from "../../mesh/runtime.ts";
import { FakeCompute, HIDDEN } from "./fake_compute.ts";
import { smallMesh, stagesOfTwo, tinyModel, tinyPlan, twoStages } from "./small_mesh.ts";

const BYTES = 2 * 3 * HIDDEN * 4;

/** The calls that belong to rounds. */
const inRounds = (compute: FakeCompute) => compute.calls.filter((call) => !/^(load|put)/.test(call));

Deno.test("two stages run their lists in order, vote, and step as decided", async () => {
  const computes = { a: new FakeCompute(), b: new FakeCompute() };
  const mesh = smallMesh(tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }), computes);
  await mesh.start();
  mesh.round(0);
  mesh.round(1);
  await mesh.heard("a", "vote");
  await mesh.heard("b", "vote");
  mesh.decide(0);
  await mesh.heard("a", "vote");
  await mesh.heard("b", "vote");
  mesh.decide(1, false);
  await mesh.generations.get("a")!.settled();
  await mesh.generations.get("b")!.settled();
  await mesh.close();
  const round = (step: string, ...calls: string[]) => [...calls, "finish", step];
  const a = [
    "forward 0.0 train ids",
    "forward 0.1 train ids",
    "backward 0.0 gradient",
    "backward 0.1 gradient",
  ];
  assertEquals(inRounds(computes.a), [...round("step 1 commit", ...a), ...round("step 2 skip", ...a)]);
  const b = [
    "forward 1.0 train activation+labels",
    "forward 1.1 train activation+labels",
    "backward 1.0",
    "backward 1.1",
  ];
  assertEquals(inRounds(computes.b), [...round("step 1 commit", ...b), ...round("step 2 skip", ...b)]);
  assertEquals(mesh.failures.size, 0);
});

Deno.test("a report counts the bytes of its round in both directions", async () => {
  const mesh = smallMesh(tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }), {
    a: new FakeCompute(),
    b: new FakeCompute(),
  });
  await mesh.start();
  for (const round of [0, 1]) {
    mesh.round(round);
    const { report } = await mesh.heard("a", "vote");
    await mesh.heard("b", "vote");
    assertEquals([report.sent, report.received, report.busy], [2 * BYTES, 2 * BYTES, 1]);
    mesh.decide(round);
  }
  await mesh.close();
});

Deno.test("evaluation goes on by itself, and a vote in between still waits", async () => {
  const computes = { a: new FakeCompute(), b: new FakeCompute() };
  const mesh = smallMesh(tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }), computes);
  await mesh.start();
  mesh.round(0, "evaluate");
  mesh.round(1, "evaluate");
  mesh.round(2, "train");
  mesh.round(3, "evaluate");
  await mesh.heard("b", "evaluated");
  await mesh.heard("b", "evaluated");
  await mesh.heard("a", "vote");
  await mesh.heard("b", "vote");
  assertEquals(computes.b.calls.filter((call) => call.includes("evaluate")).length, 4);
  mesh.decide(2);
  const { round } = await mesh.heard("b", "evaluated");
  assertEquals(round, 3);
  await mesh.close();
});

/** A transport whose initiator's channels hold back what is sent while `closed` says so. */
function gated(gate: { shut: boolean; open?: () => void }, inner: Transport): Transport {
  return {
    kind: inner.kind,
    async open(signal, initiator) {
      const channel = await inner.open(signal, initiator);
      const held: Uint8Array<ArrayBuffer>[] = [];
      const send = channel.send.bind(channel);
      gate.open = () => {
        gate.shut = false;
        held.splice(0).forEach(send);
      };
      channel.send = (message) => gate.shut ? void held.push(message) : send(message);
      return channel as Channel;
    },
  };
}

Deno.test("a send that does not get through does not hold up the next computation", async () => {
  const gate: Parameters<typeof gated>[0] = { shut: false };
  const second = Promise.withResolvers<void>();
  const computes = {
    a: new FakeCompute({
      before: (call) => {
        if (call === "forward 0.0 train ids") gate.shut = true; // nothing leaves worker a from here on
        if (call === "forward 0.1 train ids") second.resolve();
      },
    }),
    b: new FakeCompute(),
  };
  const mesh = smallMesh(
    tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }),
    computes,
    (worker, hub) => worker === "a" ? gated(gate, hub.transport()) : hub.transport(),
  );
  await mesh.start();
  mesh.round(0);
  await second.promise;
  assert(!computes.b.calls.some((call) => call.startsWith("forward")), "the activation is still on its way");
  gate.open!();
  await mesh.heard("a", "vote");
  await mesh.heard("b", "vote");
  await mesh.close();
});

Deno.test("a tied embedding on two stages: gradient before the vote, weight after a committed step only", async () => {
  const lists = twoStages();
  lists.b.train.splice(-1, 1, { do: "send", what: "tied-gradient", stage: 1, peer: 0 }, { do: "vote" }, {
    do: "receive",
    what: "tied-weight",
    stage: 1,
    peer: 0,
  });
  lists.a.train.splice(-1, 1, { do: "receive", what: "tied-gradient", stage: 0, peer: 1 }, { do: "vote" }, {
    do: "send",
    what: "tied-weight",
    stage: 0,
    peer: 1,
  });
  const words = 8 * HIDDEN;
  class Tied extends FakeCompute {
    override async load(slice: Parameters<FakeCompute["load"]>[0]) {
      await super.load(slice);
      const name = "model.embed_tokens.weight";
      this.weights.set(name, new Float32Array(words));
      return [{ name, shape: [8, HIDDEN], order: 0, copy: slice.self === "b" }];
    }
    override takeTiedGradient() {
      this.calls.push("take tied gradient");
      return Promise.resolve(new Float32Array(words).fill(7));
    }
    override addTiedGradient(gradient: Float32Array<ArrayBuffer>) {
      this.calls.push(`add tied gradient ${gradient.length} of ${gradient[0]} and ${gradient[words - 1]}`);
      return Promise.resolve();
    }
  }
  const computes = { a: new Tied(), b: new Tied() };
  const plan = tinyPlan({ stages: stagesOfTwo(), operations: lists, model: tinyModel(2, 0, true) });
  const mesh = smallMesh(plan, computes);
  await mesh.start();
  for (const [round, commit] of [[0, true], [1, false], [2, true]] as const) {
    mesh.round(round);
    await mesh.heard("a", "vote");
    await mesh.heard("b", "vote");
    mesh.decide(round, commit);
  }
  mesh.round(3);
  await mesh.heard("a", "vote");
  await mesh.heard("b", "vote");
  await mesh.close();
  const a = computes.a.calls, b = computes.b.calls;
  assertEquals(a.filter((call) => call === `add tied gradient ${words} of 7 and 7`).length, 4);
  assert(a.indexOf(`add tied gradient ${words} of 7 and 7`) < a.indexOf("finish"));
  const puts = b.filter((call) => call.startsWith("put model.embed_tokens.weight"));
  assertEquals(puts.length, 3, "one while loading, one after each of the two committed steps");
});

Deno.test("a gradient that is not a number, and a sum that overflowed, are voted as not finite", async () => {
  const operations = { a: { train: [{ do: "vote" as const }], evaluate: [] } };
  const stages = [{ worker: "a", from: 0, to: 1, embedding: true, head: true, experts: [[]] }];
  const losses = [{ microbatch: 0, layer: 0, ce: NaN, balance: 0, z: 0, load: [[]] }];
  const tensors = [
    { name: "fine", sum: 2, finite: true },
    { name: "not a number", sum: NaN, finite: false },
    { name: "too large", sum: Infinity, finite: true },
  ];
  const mesh = smallMesh(tinyPlan({ stages, operations }), {
    a: new FakeCompute({ losses: () => losses, tensors: () => tensors }),
  });
  await mesh.start();
  mesh.round(0);
  const vote = await mesh.heard("a", "vote");
  assertEquals(vote.tensors, [
    { name: "fine", sum: 2, finite: true },
    { name: "not a number", sum: 0, finite: false },
    { name: "too large", sum: 0, finite: false },
  ]);
  assertEquals(vote.losses, losses, "the loss is told as it is");
  await mesh.close();
});

Deno.test("a round whose data does not fit the plan ends the generation with a reason", async () => {
  for (
    const [part, reason] of [
      [{ ids: new Uint8Array(4) }, "Round 0 came with 4 bytes of ids: the plan says 48"],
      [{ labels: undefined }, "Round 0 came with 0 bytes of labels"],
      [{ ids: new Uint8Array(48).fill(9) }, "among its ids: the vocabulary has 8 entries"],
    ] as const
  ) {
    const stages = [{ worker: "a", from: 0, to: 1, embedding: true, head: true, experts: [[]] }];
    const operations = { a: { train: [{ do: "vote" as const }], evaluate: [] } };
    const mesh = smallMesh(tinyPlan({ stages, operations }), { a: new FakeCompute() });
    await mesh.start();
    const whole = { ids: new Uint8Array(48), labels: new Uint8Array(48), ...part };
    const generation = mesh.generations.get("a")!;
    generation.receive({ type: "round", generation: 1, round: 0, mode: "train", validLabels: 12, ...whole });
    await generation.ended;
    assertStringIncludes(mesh.failures.get("a")!.message, reason);
    await mesh.close();
  }
});

Deno.test("a device that fails in the middle of a pass ends the generation with its reason", async () => {
  const mesh = smallMesh(tinyPlan({ stages: stagesOfTwo(), operations: twoStages() }), {
    a: new FakeCompute(),
    b: new FakeCompute({
      before: (call) => {
        if (call.startsWith("backward 1.0")) throw new Error("device lost");
      },
    }),
  });
  await mesh.start();
  mesh.round(0);
  await mesh.generations.get("b")!.ended;
  assertEquals(mesh.failures.get("b")?.message, "device lost");
  await mesh.close();
});
