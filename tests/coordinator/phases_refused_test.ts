/** Recipes of several phases that are refused before anything is made. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { MemoryStorage } from "../memory_storage.ts";

import { recipe, start, train } from "./phases.ts";

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
