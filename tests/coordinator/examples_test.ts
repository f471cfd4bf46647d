/** Recipes that lie in the repository can be read, and their phases fit each other. */
import { assert, assertEquals } from "@std/assert";
import { parseRecipe } from "../../coordinator/recipe/recipe.ts";
import { modelsOf } from "../../coordinator/recipe/switches.ts";
import { parseConfig as parseData } from "../../data/config.ts";
import { parseConfig } from "../../model/config.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));

const recipes: [path: string, vocabulary: number, phases: number][] = [
  ["examples/tiny.toml", 259, 1],
  ["demo/demo.toml", 259, 5],
  ["examples/bilingual/recipe.toml", 8192, 7],
];
for (const [path, vocabulary, phases] of recipes) {
  Deno.test(`${path}: its phases fit`, async () => {
    const recipe = parseRecipe(await read(path), (inner) => `/${inner}`);
    assert(recipe.model.kind === "fresh");
    const models = modelsOf(recipe.phases, parseConfig({ vocab_size: vocabulary, ...recipe.model.config }));
    assertEquals(models.length, phases);
    if (phases > 1) assertEquals(models.at(-1)!.experts, 8);
  });
}

Deno.test("the bilingual example reads the shards that its phase makes", async () => {
  const recipe = parseRecipe(await read("examples/bilingual/recipe.toml"), (inner) => `/x/${inner}`);
  const config = parseData(await read("examples/bilingual/data.toml"), (inner) => `/x/${inner}`);
  assertEquals(recipe.data.shards, config.output);
});
