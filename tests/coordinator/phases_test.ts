/** A recipe of several phases over a mesh: switches, measurements, and going on after a kill anywhere. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { RunEvent } from "../../coordinator/events.ts";
import type { ReportData } from "../../coordinator/report/report_data.ts";
import { MemoryStorage } from "../memory_storage.ts";

import { recipe, start, train } from "./phases.ts";

/** Which validations a run's report has, and what they found. */
function validations(storage: MemoryStorage, run = "phases") {
  const { validations } = JSON.parse(storage.string(`/runs/${run}/report.json`)) as ReportData;
  return validations.map(({ phase, step, tokens, nll }) => ({ phase, step, tokens, nll }));
}

/** Everything that a checkpoint of the end consists of. */
function final(storage: MemoryStorage, run = "phases") {
  const path = JSON.parse(storage.string(`/runs/${run}/latest.json`)).folder;
  const folder = `/runs/${run}/${path}`;
  return {
    path,
    weights: storage.files.get(`${folder}/model.safetensors`)!,
    moments: storage.files.get(`${folder}.state/moments.safetensors`)!,
  };
}

async function undisturbed() {
  const mesh = await start();
  try {
    const outcome = await mesh.run(recipe);
    assertEquals(outcome.event, "done", JSON.stringify(mesh.events.at(-1)));
    return { events: mesh.events, storage: mesh.storage, final: final(mesh.storage) };
  } finally {
    await mesh.close();
  }
}

const whole = await undisturbed();
const only = <E extends RunEvent["event"]>(event: E) =>
  whole.events.filter((each): each is Extract<RunEvent, { event: E }> => each.event === event);

Deno.test("a recipe trains, grows, trains, upcycles, trains and evaluates", () => {
  assertEquals(
    only("step").map(({ phase, step }) => [phase, step]),
    [0, 2, 4].flatMap((phase) => [1, 2, 3, 4, 5, 6].map((step) => [phase, step])),
  );
  const parts = only("plan").map(({ workers }) =>
    workers.map(({ layers, experts }) => layers.length > 0 ? "layers" : `${experts.length} layers' experts`)
  );
  assertEquals(parts[0], ["layers", "layers"], "a dense model has no hosts");
  assertEquals(
    parts[2],
    ["layers", "layers", "2 layers' experts"],
    "replanned for the experts, a trip a stage",
  );
  assertEquals(whole.final.path, "checkpoints/step-000018");
});

Deno.test("the validation loss is measured before and after each switch, and exact ones keep it", () => {
  const switches = only("switch");
  assertEquals(switches.map(({ phase, kind, exact }) => [phase, kind, exact]), [
    [1, "grow", true],
    [3, "upcycle", true],
  ]);
  for (const { before, after } of switches) {
    assert(before!.nll! > 1);
    assertAlmostEquals(before!.nll!, after!.nll!, 1e-4);
    assertEquals(before!.tokens, after!.tokens);
  }
  const evaluations = only("evaluation");
  assertEquals(evaluations.map(({ phase, step }) => [phase, step]), [
    [0, 6],
    [2, 0],
    [2, 6],
    [4, 0],
    [4, 6],
    [5, 0],
  ]);
  assert(evaluations[5].tokens > evaluations[4].tokens, "the last phase takes all of the validation text");
});

Deno.test("a run tells beforehand what it will take", () => {
  const [estimate] = only("estimate");
  assertEquals(estimate.phases.map(({ kind }) => kind), [
    "train",
    "grow",
    "train",
    "upcycle",
    "train",
    "evaluate",
  ]);
  assertEquals(estimate.tokens, 3 * 6 * 4 * 12);
  assert(estimate.epochs > 0 && estimate.epochs < 1);
  assertEquals(estimate.free, null, "files in memory have no disk");
  const [small, , large, , mixture] = estimate.phases;
  assert(small.parameters < large.parameters && large.parameters < mixture.parameters);
  assert(large.flops > small.flops && small.seconds > 0 && small.memory > 16 * small.parameters / 2);
  // Two checkpoints of weights and two moments, f32, and the lines of six steps.
  assert(small.disk >= 2 * 12 * small.parameters && small.disk < 2 * 12 * small.parameters + 20_000);
});

/** A moment at which a run is killed, as the events tell it. */
type Moment = (event: RunEvent) => boolean;
const plans = (count: number): Moment => {
  let seen = 0;
  return (event) => event.event === "plan" && ++seen === count;
};
const moments: [what: string, at: Moment][] = [
  ["while the first phase loads", plans(1)],
  ["in the first phase", (event) => event.event === "step" && event.phase === 0 && event.step === 5],
  [
    "behind the first phase, before the growth",
    (event) => event.event === "checkpoint" && event.position.step === 6,
  ],
  ["while the grown model loads", plans(2)],
  ["right behind the growth", (event) => event.event === "switch" && event.kind === "grow"],
  ["in the second phase", (event) => event.event === "step" && event.phase === 2 && event.step === 5],
  ["while the upcycled model loads", plans(3)],
  ["right behind the upcycling", (event) => event.event === "switch" && event.kind === "upcycle"],
  ["in the third phase", (event) => event.event === "step" && event.phase === 4 && event.step === 3],
  ["while the evaluation loads", plans(4)],
];
for (const [what, at] of moments) {
  Deno.test(`killed ${what}, a run goes on to the same weights`, async () => {
    const first = await start();
    // A kill: from that moment on nothing that the coordinator does reaches the disk.
    const kept = new MemoryStorage();
    let dead = false;
    const outcome = first.run(recipe, false, (event) => {
      if (dead || !at(event)) return;
      dead = true;
      for (const [path, bytes] of first.storage.files) kept.files.set(path, bytes.slice());
    });
    await outcome;
    await first.close();
    assert(dead, "the moment came");
    const second = await start(kept);
    try {
      const resume = kept.files.has("/runs/phases/recipe.toml");
      const { event } = await second.run(recipe, resume);
      assertEquals(event, "done", JSON.stringify(second.events.at(-1)));
      assertEquals(final(kept), whole.final);
      assertEquals(validations(kept), validations(whole.storage), "none is missing");
    } finally {
      await second.close();
    }
  });
}

Deno.test("a recipe that ends with a switch leaves the switched model", async () => {
  const mesh = await start();
  try {
    const at = recipe.lastIndexOf('[[phase]]\nkind = "upcycle"');
    const outcome = await mesh.run(
      recipe.slice(0, at) + '[[phase]]\nkind = "upcycle"\nnum_local_experts = 3\n',
    );
    assertEquals(outcome.event, "done", JSON.stringify(mesh.events.at(-1)));
    const { path } = final(mesh.storage);
    assertEquals(path, "checkpoints/step-000012-phase-4");
    const config = JSON.parse(mesh.storage.string(`/runs/phases/${path}/config.json`));
    assertEquals(config.num_local_experts, 3);
    const last = mesh.events.findLast((event) => event.event === "switch");
    assert(last?.event === "switch" && last.before !== null && last.after === null);
  } finally {
    await mesh.close();
  }
});

Deno.test("a later phase reads on where the one before it ended", async () => {
  const ids = async (text: string) => {
    const mesh = await start();
    try {
      assertEquals((await mesh.run(text)).event, "done");
      return mesh.steps().map(({ loss }) => loss);
    } finally {
      await mesh.close();
    }
  };
  // The same rate in both: two phases of three steps are one of six.
  const head = recipe.slice(0, recipe.indexOf("[[phase]]")).replace("expert_hosts = 1", "");
  const phase = (steps: number) =>
    train('schedule = "constant"').replace("steps = 6", `steps = ${steps}`)
      .replace("warmup = 2", "warmup = 0");
  assertEquals(await ids(head + phase(3) + phase(3)), await ids(head + phase(6)));
});
