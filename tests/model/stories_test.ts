/**
 * A real pretrained model, where it lies beside the project (../shared/models/stories260k): imported, grown and upcycled
 * in f64. Skipped by name elsewhere.
 */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { growModel } from "../../model/growth/growth.ts";
import type { TensorSource } from "../../model/source.ts";
import { loadTokenizer } from "../../model/text/load_tokenizer.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { logitsF64 } from "./float64_model.ts";
import { readAll } from "./models.ts";

const folder = fromFileUrl(new URL("../../../shared/models/stories260k", import.meta.url));
const files = denoRuntime().storage;
const missing = await files.size(`${folder}/config.json`) === undefined;
const name = (what: string) => missing ? `${what} (skipped: ../shared/models/stories260k is not here)` : what;

const sentence =
  "Once upon a time, there was a little boy named Tim. Tim had a red ball. He liked to play with it in the " +
  "park. One day, he met a big dog. The dog wanted to play too.";

/** Mean negative log-likelihood of the sentence after the tokenizer's prefix. */
async function meanNll(source: TensorSource): Promise<number> {
  const tokenizer = await loadTokenizer(files, folder);
  const ids = [...tokenizer.prefix, ...tokenizer.encode(sentence)];
  const logits = logitsF64(source.config, await readAll(source), ids);
  let sum = 0;
  for (let t = 1; t < ids.length; t++) {
    const row = logits[t - 1], most = row.reduce((a, b) => Math.max(a, b));
    sum += most + Math.log(row.reduce((total, value) => total + Math.exp(value - most), 0)) - row[ids[t]];
  }
  return sum / (ids.length - 1);
}

Deno.test({
  name: name("stories260K: import, tokenizer and loss are those of its README"),
  ignore: missing,
  async fn() {
    assertAlmostEquals(await meanNll(await openCheckpoint(files, folder)), 0.7142835, 2e-6);
    const tokenizer = await loadTokenizer(files, folder);
    assertEquals([tokenizer.vocabSize, tokenizer.bos, tokenizer.eos, tokenizer.prefix], [512, 1, 2, [1]]);
    assertEquals(tokenizer.decode(tokenizer.encode(sentence)), sentence);
    const stream = tokenizer.stream();
    assertEquals(
      [...tokenizer.encode("中文 " + sentence)].map((id) => stream.push(id)).join("") + stream.end(),
      "中文 " + sentence,
    );
  },
});

Deno.test({
  name: name("stories260K: wider, deeper by identity, and upcycled, it has the same loss"),
  ignore: missing,
  async fn() {
    const source = await openCheckpoint(files, folder), { config } = source;
    const wide = { ...config, hiddenSize: 128, intermediateSize: 344, heads: 16, layers: 8 };
    const grown = growModel(source, wide, { method: "fpi", depth: "identity", width: "copies" });
    assertAlmostEquals(await meanNll(grown), 0.7142835, 2e-6);
    const odd = { ...config, hiddenSize: 80, intermediateSize: 200, heads: 12, tiedEmbeddings: false };
    const scaled = growModel(source, odd, { method: "fpi", depth: "identity", width: "scaled-copies" });
    assertAlmostEquals(await meanNll(scaled), 0.7142835, 2e-6);
    const moe = upcycleModel(grown, upcycledConfig(wide, { experts: 8, expertsPerToken: 2 }), { seed: 1 });
    assertAlmostEquals(await meanNll(moe), 0.7142835, 2e-6);
    const aki = growModel(source, { ...wide, layers: 5 }, {
      method: "aki",
      depth: "interpolate",
      width: "copies",
    });
    assert(await meanNll(aki) > 1, "AKI does not keep the function");
  },
});
