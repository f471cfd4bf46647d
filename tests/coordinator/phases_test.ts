/** A recipe of several phases over a mesh: switches, measurements, and going on after a kill anywhere. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import type { RunEvent } from "../../coordinator/events.ts";
import type { ReportData } from "../../coordinator/report/report_data.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { smallText } from "./small_run.ts";

const train = (more = "") => `
[[phase]]
kind = "train"
steps = 6
batch = 4
microbatches = 2
sequence = 12
learning_rate = 1e-2
warmup = 2
evaluate_batches = 8
checkpoint_every = 3
${more}`;

/** Dense, then wider and deeper, then a mixture of experts. */
const recipe = `
name = "phases"
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 4
attention_bias = true
seed = 1
[data]
train = ["a.txt"]
validation = 0.2
[mesh]
stages = 2
expert_hosts = 1
${train()}
[[phase]]
kind = "grow"
hidden_size = 16
intermediate_size = 24
num_attention_heads = 4
num_hidden_layers = 3
depth = "identity"
${train('schedule = "wsd"')}
[[phase]]
kind = "upcycle"
num_local_experts = 4
${train()}
[[phase]]
kind = "evaluate"
batch = 4
sequence = 12
`;

async function start(storage = new MemoryStorage()): Promise<MeshInMemory> {
  storage.text("/a.txt", smallText);
  return await MeshInMemory.start({ workers: 3, device: () => openDevice({ kind: "reference" }), storage });
}

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

const bad: [what: string, text: string, name: string, says: string[]][] = [
  ["growing to something smaller", recipe.replace("hidden_size = 16", "hidden_size = 4"), "RecipeError", [
    "[[phase]] 2 (grow)",
    "from 8 to 4",
  ]],
  ["growing to the same", recipe.replace(/hidden_size = 16\n.*\n.*\n.*\n/, ""), "RecipeError", [
    "[[phase]] 2 (grow)",
    "nothing would grow",
  ]],
  [
    "heads that do not fit",
    recipe.replace("num_attention_heads = 4", "num_attention_heads = 4\nnum_key_value_heads = 3"),
    "RecipeError",
    [
      "[[phase]] 2 (grow)",
    ],
  ],
  ["upcycling a mixture", recipe + '[[phase]]\nkind = "upcycle"\n', "RecipeError", [
    "[[phase]] 7 (upcycle)",
    "4 experts already",
  ]],
  ["growing a mixture", recipe + '[[phase]]\nkind = "grow"\nhidden_size = 32\n', "RecipeError", [
    "[[phase]] 7 (grow)",
    "Only dense models",
  ]],
  [
    "balancing a dense model",
    recipe.replace("warmup = 2", 'warmup = 2\nbalancing = "global"'),
    "RecipeError",
    [
      "[[phase]] 1 (train)",
      "dense",
    ],
  ],
  ["more tokens than there are", recipe.replace("steps = 6", "tokens = 1_000_000"), "RecipeError", [
    "1.00M tokens",
    "epochs",
    "[data] epochs allows 4",
  ]],
  ["a length that is given twice", recipe.replace("steps = 6", "steps = 6\ntokens = 100"), "RecipeError", [
    "[[phase]] 1",
    "steps or as tokens",
  ]],
  [
    "text whose description is missing",
    recipe.replace("[[phase]]", '[[phase]]\nkind = "prepare"\nconfig = "d.toml"\n[[phase]]'),
    "RecipeError",
    [
      "[[phase]] 1 (prepare)",
      "/d.toml",
    ],
  ],
  ["preparing in the middle", recipe + '[[phase]]\nkind = "prepare"\nconfig = "d.toml"\n', "RecipeError", [
    "[[phase]] 7",
    "first phase",
  ]],
  [
    "stages that a later phase has no layers for",
    recipe.replace("[mesh]\nstages = 2", "[mesh]") + train("stages = 4"),
    "PlanInfeasible",
    [
      "4 stages",
      "3 layers",
    ],
  ],
];
Deno.test("recipes whose parts do not fit are refused before anything is made", async (t) => {
  const mesh = await start();
  try {
    for (const [what, text, name, says] of bad) {
      await t.step(what, async () => {
        const error = await mesh.run(text).then(() => undefined, (error: Error) => error);
        assertEquals(error?.name, name, error?.message);
        for (const part of says) assertStringIncludes(error!.message, part);
        assertEquals(mesh.storage.files.has("/runs/phases/recipe.toml"), false, "no folder was begun");
      });
    }
  } finally {
    await mesh.close();
  }
});

Deno.test("a run whose checkpoints have no room is not begun", async () => {
  const storage = new MemoryStorage();
  const mesh = await start(Object.assign(storage, { free: () => Promise.resolve(50_000) }));
  try {
    const error = await mesh.run(recipe).then(() => undefined, (error: Error) => error);
    assertEquals(error?.name, "RecipeError");
    for (const part of ["48.8 KiB are free", "short", "checkpoint_every"]) {
      assertStringIncludes(error!.message, part);
    }
    assertEquals(storage.files.has("/runs/phases/recipe.toml"), false);
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
