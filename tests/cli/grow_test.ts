/** Growing and upcycling by verbs: ways, formats, refusals, and being stopped in the middle. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { verb as grow } from "../../cli/grow.ts";
import { refuseChangedLoss } from "../../cli/switch.ts";
import { verb as upcycle } from "../../cli/upcycle.ts";
import { CommandError, UsageError } from "../../cli/verb.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { CheckpointError, GrowthError } from "../../model/errors.ts";
import { inFolder, names, on, run, storage, text, writeSmall } from "./models.ts";
import { start } from "./program.ts";

Deno.test("other ways to grow say that the function changes, and do it", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path("text.txt"), text);
    await writeSmall(path("small"), { num_key_value_heads: 4, tie_word_embeddings: true });
    const args = ["--hidden", "24", "--heads", "5", "--layers", "4", "--method", "aki-pro"];
    const { text: said, lines } = await run(grow, path("small"), path("big"), ...args, ...on(path));
    assertStringIncludes(said, "the function changes");
    assertStringIncludes(said, "key/value heads 4 -> 5");
    assert(
      lines.find(({ when }) => when === "after")!.nll !== lines.find(({ when }) => when === "before")!.nll,
    );
    await run(grow, path("small"), path("untied"), "--untie");
    assertEquals((await openCheckpoint(storage, path("untied"))).config.tiedEmbeddings, false);
    for (const [i, args] of [["--drop", "0.5"], ["--noise", "0.1"]].entries()) {
      const { text: said } = await run(upcycle, path("small"), path(`moe${i}`), ...args);
      assertStringIncludes(said, "experts differ from the start");
    }
  });
});

Deno.test("formats: upcycling keeps them, growing takes f32 unless asked", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("small"), {}, { dtype: (name) => name.includes("norm") ? "F32" : "BF16" });
    await run(upcycle, path("small"), path("moe"));
    const moe = await openCheckpoint(storage, path("moe"));
    for (const { name } of moe.table) {
      assertEquals(moe.dtype(name), name.includes("norm") ? "F32" : "BF16", name);
    }
    const { text: said } = await run(grow, path("small"), path("b"), "--ffn", "40", "--dtype", "bf16");
    assertStringIncludes(said, "up to rounding to BF16");
    await run(grow, path("small"), path("f"), "--ffn", "40");
    const dtype = async (folder: string) =>
      (await openCheckpoint(storage, path(folder))).dtype("model.norm.weight");
    assertEquals([await dtype("b"), await dtype("f")], ["BF16", "F32"]);
  });
});

Deno.test("--dry-run writes nothing", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("small"));
    const { lines } = await run(grow, path("small"), path("big"), "--hidden", "24", "--dry-run", "--json");
    assertEquals(lines.map(({ event }) => event), ["plan"]);
    assertEquals(await names(path("")), ["small"]);
  });
});

Deno.test("what cannot be done is refused before anything is written", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("small"));
    await writeSmall(path("there"));
    const bad: [typeof grow, string[], new (message: string) => Error, string][] = [
      [grow, [path("there"), "--hidden", "24"], CheckpointError, "exists already"],
      [upcycle, [path("there")], CheckpointError, "exists already"],
      [grow, [path("x"), "--hidden", "8"], GrowthError, "Cannot shrink the hidden size from 12 to 8"],
      [grow, [path("x"), "--kv-heads", "4"], GrowthError, "must keep the source's 2 groups"],
      [grow, [path("x"), "--heads", "5"], GrowthError, "does not fit itself"],
      [grow, [path("x"), "--method", "magic", "--ffn", "30"], GrowthError, "known are fpi, aki"],
      [grow, [path("x"), "--spread", "2", "--ffn", "30"], GrowthError, "spread is 2"],
      [grow, [path("x")], UsageError, "Nothing would grow"],
      [grow, [path("x"), "--untie"], UsageError, "its own already"],
      [grow, [path("x"), "--ffn", "30", "--dtype", "int8"], UsageError, "--dtype takes"],
      [grow, [path("x"), "--ffn", "30", "--sequence", "8"], UsageError, "give --text FILE too"],
      [upcycle, [path("x"), "--experts", "2", "--experts-per-token", "3"], GrowthError, "visit 3 experts"],
      [upcycle, [path("x"), "--shared-expert", "1"], UsageError, "above 0 and below 1, not 1"],
      [upcycle, [path("x"), "--shared-expert", "-0.5"], UsageError, "above 0 and below 1, not -0.5"],
      [
        upcycle,
        [path("x"), "--shared-expert=half"],
        UsageError,
        '--shared-expert takes a number, not "half"',
      ],
      [upcycle, [path("x"), "--shared-expert", "half"], UsageError, '"half" is one argument too many'],
      [upcycle, [path("x"), "--router-std", "1", "--router-variance", "1"], UsageError, "give one"],
    ];
    for (const [verb, args, type, part] of bad) {
      await assertRejects(() => run(verb, path("small"), ...args), type, part);
    }
    assertEquals(await names(path("")), ["small", "there"]);
    // --like takes the other model's sizes, and what cannot be reached from here is refused as well.
    const others: [Record<string, unknown>, string][] = [
      [{ head_dim: 8 }, "Cannot change the head size from 6 to 8: rotary embedding"],
      [{ vocab_size: 300 }, "Cannot change the vocabulary"],
      [{ attention_bias: false }, "biases on q, k and v"],
      [{ num_hidden_layers: 1 }, "Cannot shrink the number of layers"],
    ];
    const json = JSON.parse(await Deno.readTextFile(path("small/config.json")));
    for (const [other, part] of others) {
      await Deno.writeTextFile(path("other.json"), JSON.stringify({ ...json, ...other }));
      await assertRejects(
        () => run(grow, path("small"), path("x"), "--like", path("other.json")),
        GrowthError,
        part,
      );
    }
    await Deno.writeTextFile(
      path("other.json"),
      JSON.stringify({ ...json, hidden_size: 24, num_hidden_layers: 3 }),
    );
    await run(grow, path("small"), path("like"), "--like", path("other.json"), "--ffn", "21");
    const { hiddenSize, layers, intermediateSize } = (await openCheckpoint(storage, path("like"))).config;
    assertEquals([hiddenSize, layers, intermediateSize], [24, 3, 21]);
    await run(upcycle, path("small"), path("moe"));
    await assertRejects(() => run(upcycle, path("moe"), path("x")), GrowthError, "experts already");
    await assertRejects(() => run(grow, path("moe"), path("x"), "--ffn", "40"), GrowthError, "Only dense");
  });
});

Deno.test("stopped in the middle it leaves nothing; killed, a leftover that the next one clears", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("small"), { hidden_size: 256, intermediate_size: 1024 });
    // Noise on 64 experts takes seconds: enough to be in the middle when the first file is there.
    const args = ["upcycle", path("small"), path("moe"), "--experts", "64", "--noise", "0.1"];
    const interrupt = async (signal: Deno.Signal) => {
      const child = start(args), ended = child.output();
      const begun = Date.now();
      while (!(await names(path(""))).includes("moe.partial")) {
        if (Date.now() - begun > 60_000) throw new Error("It never began");
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      child.kill(signal);
      const { code, stderr } = await ended;
      return { code, text: new TextDecoder().decode(stderr) };
    };
    const { code, text } = await interrupt("SIGINT");
    assertEquals(code, 1);
    assertStringIncludes(text, "was not written, and what was written of it is removed");
    assertEquals(await names(path("")), ["small"]);
    await interrupt("SIGKILL");
    assertEquals(await names(path("")), ["moe.partial", "small"]);
    await run(upcycle, path("small"), path("moe"), "--experts", "2");
    assertEquals(await names(path("")), ["moe", "small"]);
    assertEquals((await openCheckpoint(storage, path("moe"))).config.experts, 2);
  });
});

Deno.test("an exact change whose loss would change is not written", () => {
  const loss = (nll: number) => ({ nll, bitsPerByte: nll, tokens: 9, bytes: 9, load: [] });
  refuseChangedLoss(loss(3), loss(3.0002), "text.txt");
  for (const after of [3.01, 2.99, NaN]) {
    assertThrows(
      () => refuseChangedLoss(loss(3), loss(after), "text.txt"),
      CommandError,
      "Nothing was written",
    );
  }
});
