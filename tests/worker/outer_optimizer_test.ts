/** The outer step of local training against its formula, on weights that the test plays. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { Parameters } from "../../model/parameters.ts";
import { OuterOptimizer } from "../../worker/outer_optimizer.ts";

/** One tensor "w" of three words, and a copy that nobody steps. */
function tensors(weights: number[]) {
  const held = Float32Array.from(weights);
  const parameters = {
    tensors: [
      { spec: { name: "w", shape: [3] }, copy: false },
      { spec: { name: "copy", shape: [3] }, copy: true },
    ],
    get: () => Promise.resolve(held.slice()),
    put: (_name: string, _part: string, start: number, words: Float32Array) => held.set(words, start),
  };
  return { held, outer: new OuterOptimizer(parameters as unknown as Parameters) };
}

const words = (...values: number[]) => Float32Array.from(values).buffer;

Deno.test("two outer steps are Nesterov's over the weighted mean of the deltas", async () => {
  const { held, outer } = tensors([1, 2, 3]);
  await outer.begin();
  held.set([0.5, 2.5, 3]); // half a step down, half a step up
  assertEquals(await outer.deltas(["w"]), words(0.5, -0.5, 0));
  const settings = { learningRate: 0.5, momentum: 0.8 };
  outer.step(["w"], [words(0.5, -0.5, 0), words(1, 0, 0)], [0.25, 0.75], settings);
  // d = 0.875, -0.125, 0; u = d; w = w - 0.5 (d + 0.8 u)
  assertEquals([...held].map((word) => Math.round(word * 1e5) / 1e5), [0.2125, 2.1125, 3]);
  assertEquals(await outer.deltas(["w"]), words(0, 0, 0), "all start from the new weights");
  outer.step(["w"], [words(0, 0, 1), words(0, 0, 1)], [0.25, 0.75], settings);
  // u = 0.7, -0.1, 1; w = w - 0.5 (d + 0.8 u)
  [0.2125 - 0.5 * 0.56, 2.1125 + 0.5 * 0.08, 3 - 0.5 * 1.8].forEach((wanted, i) =>
    assertAlmostEquals(held[i], wanted, 1e-6)
  );
});

Deno.test("weights that another worker stepped are taken over, and deltas count from them", async () => {
  const { held, outer } = tensors([1, 2, 3]);
  await outer.begin();
  outer.adopt(["w"], words(4, 5, 6));
  assertEquals([...held], [4, 5, 6]);
  held[0] = 3;
  assertEquals(await outer.deltas(["w"]), words(1, 0, 0));
});
