/** `volary eval` of models with layers missing. */
import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { verb as evaluate } from "../../cli/eval.ts";
import { UsageError } from "../../cli/verb.ts";
import { writeModel } from "../../model/checkpoint/interchange.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { onlyLayers } from "../../model/fewer_layers.ts";
import { byteTokenizerFiles } from "../../model/text/byte_tokenizer.ts";
import { inFolder, run, storage, writeSmall } from "./models.ts";

Deno.test("eval --layers and --skip-layers measure the model that is left", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path("text.txt"), "Whoever leaves layers out must say which. ".repeat(5));
    await writeSmall(path("model"), { num_hidden_layers: 4 });
    const on = async (folder: string, ...flags: string[]) => {
      const given = ["--text", path("text.txt"), "--device", "reference", "--json", ...flags];
      return await run(evaluate, path(folder), ...given);
    };
    const { lines: [whole] } = await on("model");
    assertEquals(whole.layers, undefined);
    const half = await on("model", "--layers", "50%");
    assertEquals(half.lines[0].layers, [0, 2]);
    assertStringIncludes(half.text, "with 2 of 4 layers: 0, 2");
    assertNotEquals(half.lines[0].nll, whole.nll);
    for (const flags of [["--layers", "2"], ["--skip-layers", "1,3"]]) {
      assertEquals((await on("model", ...flags)).lines, half.lines);
    }
    assertEquals((await on("model", "--skip-layers", "2-3")).lines[0].layers, [0, 1]);
    const fewer = onlyLayers(await openCheckpoint(storage, path("model")), [0, 2]);
    await writeModel(storage, path("fewer"), fewer, { extras: byteTokenizerFiles() });
    assertEquals((await on("fewer")).lines[0].nll, half.lines[0].nll, "a model of its own");

    for (
      const [flags, says] of [
        [["--layers", "5"], "4 layers"],
        [["--layers", "0%"], "at least one layer"],
        [["--layers", "101%"], "at most 100%"],
        [["--layers", "half"], '"half"'],
        [["--skip-layers", "4"], "from 0 to 3"],
        [["--skip-layers", "2-1"], '"2-1"'],
        [["--skip-layers", "0-3"], "leaves none of the model's 4 layers"],
        [["--skip-layers", "1", "--layers", "3"], "give one of the two"],
      ] as const
    ) await assertRejects(() => on("model", ...flags), UsageError, says);
  });
});
