/** What goes wrong on the command line: one paragraph, the right exit code, no stack trace, nothing half written. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { explain } from "../../cli/errors.ts";
import { verbs } from "../../cli/verbs.ts";
import { UsageError } from "../../cli/verb.ts";
import { volary } from "./program.ts";

const folder = await Deno.makeTempDir();
const recipe = join(folder, "recipe.toml"), good = join(folder, "good.toml");
const head =
  `name = "r"\n[model]\nhidden_size = 8\nintermediate_size = 8\nnum_hidden_layers = 2\nnum_attention_heads = 2\n`;
const rest =
  `[data]\ntrain = ["t.txt"]\n[[phase]]\nkind = "train"\nsteps = 2\nbatch = 2\nsequence = 4\nlearning_rate = 1e-3\n`;
await Deno.writeTextFile(good, head + rest);
await Deno.writeTextFile(recipe, head + rest.replace("batch = 2", "batch = 3\nmicrobatches = 2"));
await Deno.writeTextFile(join(folder, "stages.toml"), `${head}${rest}[mesh]\nstages = 3\n`);
await Deno.writeTextFile(
  join(folder, "experts.toml"),
  head + "num_local_experts = 2\nnum_experts_per_tok = 3\n" + rest,
);
await Deno.writeTextFile(
  join(folder, "keys.toml"),
  head + 'rope_scaling = "linear"\nhiden_size = 3\n' + rest,
);
await Deno.writeTextFile(join(folder, "damaged.json"), "{");
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));

const state = join(folder, "state");
const cases: [what: string, args: string[], code: 1 | 2, says: string][] = [
  ["no verb of that name", ["trian"], 2, 'There is no verb "trian"'],
  ["a verb that is nearly one", ["evla"], 2, 'did you mean "eval"?'],
  ["an unknown flag", ["status", "--sate", "x"], 2, "did you mean --state?"],
  ["a flag without its value", ["status", "--state"], 2, "--state needs a value"],
  ["a flag of the wrong kind", ["up", "--port", "many"], 2, "--port takes a whole number from 0 up to 65535"],
  ["an argument too many", ["status", "now"], 2, "one argument too many"],
  ["an argument that is missing", ["run"], 2, "RECIPE.toml is missing"],
  ["no coordinator", ["status", "--state", state], 1, "No coordinator is running"],
  ["no coordinator for a run", ["run", good, "--state", state], 1, "volary up"],
  ["no coordinator to plan for", ["plan", good, "--state", state], 1, "with --workers N"],
  ["no recipe", ["run", join(folder, "none.toml"), "--state", state], 1, "There is no recipe"],
  ["a batch that does not divide", ["plan", recipe, "--workers", "2"], 1, "3 divides by 1, 3"],
  ["more stages than layers", ["plan", join(folder, "stages.toml"), "--workers", "4"], 1, "2 layers"],
  ["top-k above experts", ["plan", join(folder, "experts.toml"), "--workers", "2"], 1, "3 experts"],
  ["unknown keys of a model", ["plan", join(folder, "keys.toml"), "--workers", "2"], 1, "hiden_size"],
  ["no model", ["generate", join(folder, "none")], 1, "neither a model's folder"],
  ["no model to measure", ["eval", join(folder, "none"), "--text", good], 1, "neither a model's folder"],
  ["no text to measure", ["eval", folder], 2, "--text FILE or --tasks FILE... is missing"],
  ["a cluster for a recipe", ["plan", "examples/clusters/lab.toml"], 1, "is a cluster file: it comes first"],
  [
    "a picture of several steps",
    ["sim", "examples/clusters/lab.toml", good, "--sweep", "workers=1,2", "--svg", "x.svg"],
    2,
    "--svg is a picture of one step",
  ],
  ["an invite that is none", ["join", "volary:abc"], 1, "invite"],
  [
    "a TURN server without its secret",
    ["up", "--turn", "turn:h", "--state", state],
    2,
    "--turn-secret-file go",
  ],
  [
    "what is no TURN server",
    ["up", "--turn", "turn://h", "--turn-secret-file", "x", "--state", state],
    2,
    "turns:HOST:PORT for TLS",
  ],
  [
    "a TURN secret that others may read",
    ["up", "--turn", "turn:h", "--turn-secret-file", good, "--state", state],
    1,
    "chmod 600",
  ],
  ["a TURN server without a user", ["join", "volary:abc", "--turn", "turn:h"], 2, "VOLARY_TURN_USER"],
  [
    "an address that is not ours",
    ["up", "--port", "0", "--host", "192.0.2.1", "--state", state],
    1,
    "not an address of this",
  ],
];
for (const [what, args, code, says] of cases) {
  Deno.test(`the program says what is wrong: ${what}`, async () => {
    const result = await volary(...args);
    assertStringIncludes(result.stderr, says);
    assertEquals(result.code, code);
    assertEquals(result.stdout, "");
    assert(!/^\s+at /m.test(result.stderr), "no stack trace");
    assertEquals(result.stderr.trim().split("\n").length, 1, "one paragraph");
  });
}

Deno.test("with --json an error is also an object on stdout", async () => {
  const { code, stdout } = await volary("status", "--state", state, "--json");
  const error = JSON.parse(stdout);
  assertEquals([code, error.event, error.name], [1, "error", "CommandError"]);
});

Deno.test("a port in use is named, and nothing is left behind", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const result = await volary("up", "--port", String(port), "--state", state);
  assertEquals(result.code, 1);
  assertStringIncludes(result.stderr, `Port ${port} on 127.0.0.1 is in use`);
  assert(!/^\s+at /m.test(result.stderr));
  const left = [...Deno.readDirSync(state)].map((entry) => entry.name);
  assertEquals(left, []);
});

Deno.test("every verb explains itself", async () => {
  for (const [name, entry] of Object.entries(verbs)) {
    const { verb } = await entry.load();
    assertEquals([verb.name, verb.summary], [name, entry.summary]);
    if (name !== "conformance") assertStringIncludes(verb.help, `volary ${name}`);
    assertStringIncludes(verb.help, "--json");
    assert(
      verb.examples.length > 0 && verb.examples.every((line) => line.startsWith(`${name} `) || line === name),
    );
    for (const line of verb.help.split("\n")) assert(line.length <= 120 && line === line.trimEnd(), line);
  }
  const { code, stdout, stderr } = await volary("--help");
  assertEquals([code, stderr], [0, ""]);
  for (const name of Object.keys(verbs)) assertStringIncludes(stdout, `  ${name} `);
  const nothing = await volary();
  assertEquals([nothing.code, nothing.stdout], [2, ""]);
  const join = await volary("join", "--help");
  assertEquals([join.code, join.stderr], [0, ""]);
  assertStringIncludes(join.stdout, "  deno task volary join volary:");
});

Deno.test("the help of a verb names the flags that it takes, and no others", async () => {
  const named = (text: string) => new Set([...text.matchAll(/--([a-z][a-z-]*)/g)].map(([, flag]) => flag));
  for (const [name, entry] of Object.entries(verbs)) {
    const { verb } = await entry.load(), parts = name === "data" ? [["prepare"], ["bpe"], ["tasks"]] : [[]];
    const taken = new Set<string>();
    for (const part of parts) {
      // Flags are read before anything else; one that there is not makes it say which there are.
      const { message } = await assertRejects(() => verb.run([...part, "--there-is-not"]), UsageError);
      for (const flag of named(message.split("Known:")[1])) taken.add(flag);
    }
    const help = verb.help + verb.examples.join("\n");
    assertEquals([...taken].filter((flag) => !named(help).has(flag)), [], `${name} does not explain them`);
    // At the beginning of a line or in the usage stand its own; elsewhere may be those of other verbs.
    const own = named((help.match(/^ *--\S+|\[--[^\]]*/gm) ?? []).join("\n"));
    assertEquals([...own].filter((flag) => !taken.has(flag)), [], `${name} does not take them`);
  }
});

Deno.test("what is no error of a user is a bug and is not explained away", () => {
  assertEquals(explain(new TypeError("x is undefined")), undefined);
  assertEquals(explain("a string"), undefined);
  assertEquals(explain(new Deno.errors.NotFound("no such file /a")), "no such file /a");
});
