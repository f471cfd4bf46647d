/** `volary data` and `eval --tasks` as their users type them: a tokenizer, tasks, shards, and a model that is asked. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { verb as data } from "../../cli/data.ts";
import { verb as evaluate } from "../../cli/eval.ts";
import { inFolder, names, run, writeSmall } from "./models.ts";

const sentence = (i: number) =>
  `On day ${i} the ${i % 2 === 0 ? "old" : "young"} baker of the village sold ${i % 7} loaves of brown ` +
  "bread.";

Deno.test("data makes a tokenizer and, with it, shards; what was dropped is told with samples", async () => {
  await inFolder(async (path) => {
    const lines = Array.from({ length: 300 }, (_, i) => sentence(i));
    await Deno.writeTextFile(
      path("a.txt"),
      [...lines, lines[0], "??? !!! ((( ))) ... ,,, --- +++"].join("\n"),
    );
    const bpe = await run(
      data,
      "bpe",
      path("a.txt"),
      "--output",
      path("tokenizer"),
      "--entries",
      "300",
      "--json",
    );
    assertEquals([bpe.code, bpe.lines[0].event, bpe.lines[0].entries], [0, "tokenizer", 300]);
    await Deno.writeTextFile(
      path("data.toml"),
      'output = "prepared"\ntokenizer = "tokenizer/tokenizer.json"\nvalidation = 0.1\n[deduplicate]\nnear = false\n' +
        '[[domain]]\nname = "bread"\nfiles = ["a.txt"]\ndocuments = "line"\n',
    );
    const { code, lines: [made], text } = await run(data, "prepare", path("data.toml"), "--json");
    assertEquals([code, made.before], [0, false]);
    assert((await names(path("prepared"))).includes("train-bread-00000.tokens"));
    const report = JSON.parse(await Deno.readTextFile(path("prepared/report.json")));
    const { quality, exact } = report.bread.dropped;
    assertEquals(quality["few letters"].documents, 1);
    assertStringIncludes(quality["few letters"].samples[0], "??? !!!");
    assertEquals(exact["exact duplicates"].samples, [sentence(0)]);
    assertStringIncludes(text, "- exact duplicates");
    assertStringIncludes((await run(data, "prepare", path("data.toml"))).text, "is there already");
  });
});

Deno.test("data tasks and eval --tasks: counts, standard errors and chance, as a table and as JSON", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("model"), { max_position_embeddings: 256 });
    const made = await run(
      data,
      "tasks",
      "cedict",
      "--output",
      path("words.jsonl"),
      "--count",
      "8",
      "--json",
    );
    assertEquals(made.lines, [{ event: "tasks", file: path("words.jsonl"), tasks: 8 }]);
    const own = [{ kind: "generate", prompt: "2 + 2 = ", answers: ["4"], max_tokens: 2, extract: "number" }];
    await Deno.writeTextFile(path("own.jsonl"), own.map((task) => JSON.stringify(task)).join("\n"));
    const asked = await run(
      evaluate,
      path("model"),
      "--tasks",
      path("words.jsonl"),
      path("own.jsonl"),
      "--device",
      "reference",
      "--json",
    );
    const [choose, write] = asked.lines as Record<string, Record<string, number>>[];
    assertEquals([choose.kind, choose.tasks, write.kind, write.tasks] as unknown[], [
      "choose",
      8,
      "generate",
      1,
    ]);
    for (const by of ["total", "tokens", "characters", "relative", "promptless"]) {
      const { right, accuracy, standard_error: error, chance, above_chance: above } = choose[by];
      assertEquals([chance, accuracy], [0.25, right / 8], by);
      assertEquals(error, Math.sqrt(accuracy * (1 - accuracy) / 8), by);
      assertEquals(Math.sign(above), Math.sign(accuracy - chance), by);
    }
    // Words come in sets that share their meanings, so who ignores the word is right as often as chance.
    assertEquals(choose.promptless.right, 2);
    assertEquals(write.match.chance, 0);
    const [head, ...rows] = asked.text.split("\n").slice(-7);
    for (const column of ["right", "accuracy", "standard error", "chance"]) {
      assertStringIncludes(head, column);
    }
    assertEquals(rows.length, 6);
    assertStringIncludes(rows[0], "of 8");
  });
});
