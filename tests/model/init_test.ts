/** Fresh models: distributions, and ranges that do not depend on how they are asked for. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { freshModel } from "../../model/init.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { readAll, smallConfig } from "./models.ts";

const config = smallConfig({
  hidden_size: 64,
  num_local_experts: 2,
  num_experts_per_tok: 1,
  num_hidden_layers: 8,
});

Deno.test("each role has its distribution", async () => {
  const weights = await readAll(freshModel(config, 5));
  for (const { name, role, shape } of parameterTable(config)) {
    const words = weights.get(name)!;
    assertEquals(words.length, elements(shape));
    if (role.endsWith("norm")) assert(words.every((word) => word === 1));
    else if (role.endsWith("bias")) assert(words.every((word) => word === 0));
    else {
      const deviation = Math.sqrt(words.reduce((sum, word) => sum + word * word, 0) / words.length);
      const wanted = role === "o-weight" || role === "expert-down" ? 0.02 / 4 : 0.02;
      const slack = 4 / Math.sqrt(2 * words.length); // four standard errors
      assert(Math.abs(deviation / wanted - 1) < slack, `${name}: ${deviation} for ${wanted}`);
      assert(
        Math.abs(words.reduce((sum, word) => sum + word, 0)) < 4 * wanted * Math.sqrt(words.length),
        name,
      );
    }
  }
});

Deno.test("a range is the same alone as in its tensor; names and seeds differ", async () => {
  const model = freshModel(smallConfig({ vocab_size: 1000 }), 5), name = "model.embed_tokens.weight";
  const whole = await model.read(name, 0, 12000);
  for (const [start, length] of [[0, 1], [4095, 2], [4096, 4096], [5000, 7000], [11999, 1], [12000, 0]]) {
    assertEquals(await model.read(name, start, length), whole.slice(start, start + length));
  }
  assert((await model.read("lm_head.weight", 0, 10)).join() !== whole.slice(0, 10).join());
  assert((await freshModel(model.config, 6).read(name, 0, 10)).join() !== whole.slice(0, 10).join());
  await assertRejects(() => model.read(name, 11999, 2), RangeError);
});
