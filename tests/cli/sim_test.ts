/** `sim` and `plan` with a cluster file, as processes. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { volary } from "./program.ts";

const examples = fromFileUrl(new URL("../../examples/", import.meta.url));
const lab = join(examples, "clusters/lab.toml"), tiny = join(examples, "tiny.toml");

Deno.test("sim prints one object, draws, and sweeps", async () => {
  const svg = await Deno.makeTempFile({ suffix: ".svg" });
  const { code, stdout } = await volary("sim", lab, tiny, "--stages", "2", "--json", "--svg", svg);
  assertEquals(code, 0);
  const answer = JSON.parse(stdout);
  assertEquals([answer.event, answer.stages, answer.schedule], ["simulated", 2, "gpipe"]);
  assert(answer.seconds > 0 && answer.idle > 0 && answer.idle < 1 && answer.traffic > 0);
  assertStringIncludes(await Deno.readTextFile(svg), "<svg");
  await Deno.remove(svg);
  const swept = await volary("sim", lab, tiny, "--stages", "2", "--sweep", "microbatches=1,2,8", "--json");
  const lines = swept.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.map(({ microbatches }) => microbatches), [1, 2, 8]);
});

Deno.test("plan with a cluster file says why, and what would change it", async () => {
  const { code, stderr, stdout } = await volary("plan", lab, tiny);
  assertEquals([code, stdout], [0, ""]);
  assertStringIncludes(stderr, "What would change it:");
  assertStringIncludes(stderr, "twice the bandwidth everywhere");
});

Deno.test("plan and sim take a model's folder, of which only the config is read", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = {
      model_type: "llama",
      hidden_size: 1024,
      intermediate_size: 2816,
      num_hidden_layers: 12,
      num_attention_heads: 16,
      vocab_size: 32_000,
    };
    await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
    const planned = await volary("plan", lab, folder, "--batch", "8", "--sequence", "256", "--json");
    assertEquals(planned.code, 0, planned.stderr);
    const { plan, event } = JSON.parse(planned.stdout);
    assertEquals([event, plan.shape], ["planned", { batch: 1, sequence: 256, microbatches: 8 }]);
    assertEquals(plan.pipelines[0].stages.at(-1).to, 12);
    const simulated = await volary("sim", lab, folder, "--json");
    assertEquals([simulated.code, JSON.parse(simulated.stdout).event], [0, "simulated"], simulated.stderr);
    const empty = await volary("plan", lab, examples);
    assertEquals(empty.code, 1);
    assertStringIncludes(empty.stderr, "there is no config.json");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

const wrong: [what: string, args: string[], code: 1 | 2, says: string][] = [
  ["no cluster file", ["sim", join(examples, "none.toml"), tiny], 1, "There is no cluster file"],
  ["a recipe for a cluster", ["sim", tiny, tiny], 1, "is a recipe: the cluster file comes first"],
  [
    "a schedule of another name",
    ["sim", lab, tiny, "--schedule", "1b1f"],
    2,
    "takes gpipe, 1f1b, eager-1f1b, interleaved, zero-bubble-v",
  ],
  [
    "a sweep of something else",
    ["sim", lab, tiny, "--sweep", "colour=1"],
    2,
    "--sweep takes workers, bandwidth",
  ],
  ["more workers than there are", ["sim", lab, tiny, "--sweep", "workers=13"], 2, "1 to 12 workers"],
  [
    "microbatches that do not divide",
    ["sim", lab, tiny, "--microbatches", "3"],
    2,
    "8 sequences cannot be cut into 3",
  ],
  ["more stages than layers", ["sim", lab, tiny, "--stages", "5"], 1, "at most 4"],
  ["a batch beside a recipe", ["plan", lab, tiny, "--batch", "8"], 2, "a recipe says it itself"],
  ["a sequence without a cluster", ["plan", tiny, "--sequence", "8"], 2, "--sequence needs a cluster file"],
  ["a cluster and links to measure", ["plan", lab, tiny, "--measure"], 2, "exclude each other"],
  [
    "equal workers and links to measure",
    ["plan", tiny, "--workers", "3", "--measure"],
    2,
    "exclude each other",
  ],
  ["a cluster and a number of workers", ["plan", lab, tiny, "--workers", "3"], 2, "exclude each other"],
];
for (const [what, args, code, says] of wrong) {
  Deno.test(`sim and plan say what is wrong: ${what}`, async () => {
    const result = await volary(...args);
    assertStringIncludes(result.stderr, says);
    assertEquals([result.code, result.stdout], [code, ""]);
    assertEquals(result.stderr.trim().split("\n").length, 1, "one paragraph");
  });
}
