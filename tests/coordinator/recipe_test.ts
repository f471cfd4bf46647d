import { assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { RecipeError } from "../../coordinator/errors.ts";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import { learningRate, type TrainPhase } from "../../coordinator/recipe/recipe_phases.ts";
import { checkResume } from "../../coordinator/recipe/recipe_resume.ts";

const good = `
name = "tiny"
[model]
hidden_size = 16
num_hidden_layers = 2
seed = 3
[data]
train = ["a.txt"]
[[phase]]
kind = "train"
steps = 20
batch = 4
microbatches = 2
sequence = 8
learning_rate = 1e-2
warmup = 4
`;
const read = (text: string) => parseRecipe(text, (path) => `/texts/${path}`);

Deno.test("a recipe is read with its defaults and its paths made absolute", () => {
  const recipe = read(good);
  assertEquals(recipe.model, { kind: "fresh", seed: 3, config: { hidden_size: 16, num_hidden_layers: 2 } });
  assertEquals(recipe.data, { train: ["/texts/a.txt"], validation: 0.02, epochs: 4 });
  const phase = recipe.phases[0] as TrainPhase;
  assertEquals(phase.schedule, "cosine");
  assertEquals(phase.beta2, 0.95);
});

const bad: [what: string, text: string, says: string[]][] = [
  ["no TOML", "name = ", ["not valid TOML"]],
  ["an unknown key of a phase", good + "warmups = 3\n", [
    "[[phase]] 1",
    '"warmups"',
    'did you mean "warmup"?',
  ]],
  ["an unknown section", good.replace("[data]", "[dat]"), ['"dat"', 'did you mean "data"?']],
  ["a batch that does not divide", good.replace("batch = 4", "batch = 5"), ["5 sequences", "1, 5"]],
  ["a wrong type", good.replace("steps = 20", 'steps = "many"'), ["[[phase]] 1: steps"]],
  ["a long warm-up", good.replace("warmup = 4", "warmup = 40"), ["40 steps", "20 steps"]],
  ["an unknown kind", good.replace('"train"', '"shrink"'), ["[[phase]] 1: kind", "upcycle"]],
  ["a folder beside keys", good.replace("[model]", '[model]\nfolder = "m"'), ["hidden_size", "remove"]],
  ["no model", good.replace(/hidden_size.*\n.*\nseed.*\n/, ""), ["[model]"]],
  ["an impossible name", good.replace('"tiny"', '"../tiny"'), ["name"]],
  [
    "a step beyond every round",
    good.replace("sequence = 8", "sequence = 131072").replace("batch = 4", "batch = 4096"),
    [
      "tokens",
    ],
  ],
];
for (const [what, text, says] of bad) {
  Deno.test(`a recipe is refused: ${what}`, () => {
    const error = assertThrows(() => read(text), RecipeError);
    for (const part of says) assertStringIncludes(error.message, part);
    assertEquals(error.message.includes("\n") && what !== "no TOML", false, "one paragraph");
  });
}

Deno.test("the learning rate warms up, follows a cosine to its end, or stays", () => {
  const phase = read(good).phases[0] as TrainPhase;
  assertAlmostEquals(learningRate(phase, 1), 1e-2 / 4, 1e-12);
  assertAlmostEquals(learningRate(phase, 4), 1e-2, 1e-12);
  assertAlmostEquals(learningRate(phase, 5), 1e-2, 1e-12);
  assertAlmostEquals(learningRate(phase, 20), 1e-3, 1e-12);
  assertEquals(learningRate({ ...phase, schedule: "constant" }, 20), 1e-2);
  assertEquals(learningRate({ ...phase, warmup: 0 }, 1), 1e-2);
});

Deno.test("wsd warms up, stays, and falls in a straight line over the share of steps that is asked for", () => {
  const own = good.replace("warmup = 4", 'warmup = 4\nschedule = "wsd"\ndecay = 0.25\nfinal_ratio = 0.2');
  const phase = read(own).phases[0] as TrainPhase;
  assertAlmostEquals(learningRate(phase, 2), 1e-2 / 2, 1e-12);
  for (const step of [4, 10, 15]) assertEquals(learningRate(phase, step), 1e-2);
  for (const [step, share] of [[16, 0.84], [18, 0.52], [20, 0.2]]) {
    assertAlmostEquals(learningRate(phase, step), 1e-2 * share, 1e-12);
  }
});

Deno.test("a run goes on only with the recipe that it was begun with", () => {
  const begun = read(good);
  checkResume(begun, read(good.replace("steps = 20", "steps = 40") + "evaluate_every = 2\n"));
  const error = assertThrows(
    () => checkResume(begun, read(good.replace("learning_rate = 1e-2", "learning_rate = 2e-2"))),
    RecipeError,
    "learning_rate (was 0.01)",
  );
  assertStringIncludes(error.message, "another recipe");
});
