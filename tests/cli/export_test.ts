/** From a folder to a larger one and out again, verb by verb: the same loss, and a card that tells how it came about. */
import { assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname } from "@std/path";
import { verb as evaluate } from "../../cli/eval.ts";
import { verb as exportModel } from "../../cli/export.ts";
import { verb as grow } from "../../cli/grow.ts";
import { verb as importModel } from "../../cli/import.ts";
import { verb as inspect } from "../../cli/inspect.ts";
import { verb as upcycle } from "../../cli/upcycle.ts";
import { referenceDevice } from "../../kernels/mod.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { CheckpointError, GrowthError } from "../../model/errors.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { readAll } from "../model/models.ts";
import { inFolder, names, on, run, storage, text, writeSmall } from "./models.ts";

Deno.test("grow, upcycle, export, import, eval: the same loss all the way", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path("text.txt"), text);
    await writeSmall(path("small"), { model_type: "qwen2" });
    await Deno.writeTextFile(path("small/LICENSE"), "Do what you like.");
    await Deno.writeTextFile(path("small/README.md"), "---\nlicense: mit\n---\n# The first card\n");
    const nll = async (folder: string) => {
      const { lines: [line] } = await run(evaluate, path(folder), ...on(path));
      assertAlmostEquals(line.bits_per_byte as number, (line.nll as number) / Math.LN2, 1e-12); // a byte a token
      assertEquals(line.tokens, line.bytes);
      return line.nll as number;
    };
    const first = await nll("small");
    const grown = await run(
      ...[grow, path("small"), path("grown"), "--hidden", "20", "--ffn", "30", "--heads", "6"] as const,
      ...["--layers", "3", "--depth", "identity", "--width", "scaled-copies", "--noise", "0.01"],
      ...on(path),
    );
    const [plan, before, after, made] = grown.lines;
    assertEquals([plan.event, plan.exact, made.event, made.folder], ["plan", true, "made", path("grown")]);
    assertEquals([before.when, before.nll, after.when], ["before", first, "after"]);
    assertAlmostEquals(after.nll as number, first, 1e-5);
    for (
      const part of ["hidden size 12 -> 20", "2 x [20, 12]", "3 x [30, 20]", "the function stays", "disk"]
    ) {
      assertStringIncludes(grown.text, part);
    }
    assertAlmostEquals(await nll("grown"), first, 1e-5);
    const experts = await run(
      ...[upcycle, path("grown"), path("moe"), "--experts", "3", "--router-variance", "0.04"] as const,
      ...on(path),
    );
    assertStringIncludes(experts.text, "router deviation 0.2");
    assertAlmostEquals(await nll("moe"), first, 1e-5);
    await run(exportModel, path("moe"), path("out"), "--shard", "1", "--name", "A small one");
    await run(importModel, path("out"), path("back"));
    assertEquals(await nll("back"), await nll("moe"));
    const [a, b] = await Promise.all(["moe", "back"].map((folder) => openCheckpoint(storage, path(folder))));
    assertEquals(await readAll(b), await readAll(a));
    assertEquals([a.config.modelType, b.config.modelType], ["aquilamoe", "aquilamoe"]);
    assertEquals(await names(path("back")), [
      "LICENSE",
      "README.md",
      "README.source.md",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
      "volary.json",
    ]);
    const card = await Deno.readTextFile(path("out/README.md"));
    for (
      const part of [
        "# A small one",
        'license: "mit"',
        "Began as small.",
        "- grown: layers 2 -> 3, hidden size 12 -> 20",
        "- upcycled to 3 experts, 2 a token (router deviation 0.2, seed 1)",
        "text.txt, before grow",
        "text.txt, after upcycle",
      ]
    ) assertStringIncludes(card, part);
    assertStringIncludes(await Deno.readTextFile(path("back/README.source.md")), "The first card");
    const seen = await run(inspect, path("moe"), ...on(path));
    assertStringIncludes(seen.text, "experts repeat another bit for bit in 3 of 3 layers");
    assertStringIncludes(seen.text, "x an even share");
    assertEquals((seen.lines[0].load as number[][]).length, 3);
  });
});

Deno.test("upcycled with a shared expert: the same loss, kept by export and import, told by inspect", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path("text.txt"), text);
    await writeSmall(path("small"), { model_type: "qwen2" });
    for (const [name, value] of [["half", []], ["third", ["0.3"]]] as const) {
      const moe = path(name), args = ["--experts", "3", "--shared-expert", ...value];
      const { lines: [plan, before, after], text: said } = await run(
        upcycle,
        ...(value.length > 0 ? [path("small"), moe, ...args] : [...args, path("small"), moe]),
        ...on(path),
      );
      assertEquals([plan.exact, (plan.options as { share: number }).share], [true, Number(value[0] ?? 0.5)]);
      assertAlmostEquals(after.nll as number, before.nll as number, 1e-5);
      for (const part of ["beside a shared expert", "qwen2 -> volary", "experts are copies that share"]) {
        assertStringIncludes(said, part);
      }
      await run(exportModel, moe, path(`${name}-out`));
      await run(importModel, path(`${name}-out`), path(`${name}-back`));
      const [a, b] = await Promise.all([moe, path(`${name}-back`)].map((f) => openCheckpoint(storage, f)));
      assertEquals([b.config, await readAll(b)], [a.config, await readAll(a)]);
      assertStringIncludes((await run(inspect, moe)).text, "beside a shared expert of width 20");
    }
    await assertRejects(
      () => run(exportModel, path("half"), path("x"), "--as", "mixtral"),
      CheckpointError,
      "cannot be exported as mixtral",
    );
    // A share that a narrow format rounds is not called exact, a half is.
    await writeSmall(path("narrow"), {}, { dtype: () => "BF16" });
    for (const [share, exact] of [["0.5", true], ["0.3", false]] as const) {
      const { lines: [plan] } = await run(
        ...[upcycle, path("narrow"), path("y"), "--shared-expert", share, "--dry-run", "--json"] as const,
      );
      assertEquals(plan.exact, exact, share);
    }
  });
});

Deno.test("a ladder residual goes through export and import, and what cannot have it refuses", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path("text.txt"), text);
    const ladder = { num_local_experts: 3, num_experts_per_tok: 2, ladder_residual: true };
    await writeSmall(path("moe"), ladder);
    await run(exportModel, path("moe"), path("out"));
    await run(importModel, path("out"), path("back"));
    const [a, b] = await Promise.all(["moe", "back"].map((folder) => openCheckpoint(storage, path(folder))));
    assertEquals([b.config, await readAll(b)], [a.config, await readAll(a)]);
    assertEquals([b.config.ladderResidual, b.config.modelType], [true, "volary"]);
    assertStringIncludes((await run(inspect, path("back"))).text, "ladder residual");
    assertStringIncludes(await Deno.readTextFile(path("out/README.md")), "ladder residual");
    const one = await run(evaluate, path("moe"), ...on(path)),
      other = await run(evaluate, path("back"), ...on(path));
    assertEquals(one.lines[0].nll, other.lines[0].nll);
    for (const as of ["mixtral", "aquilamoe"]) {
      await assertRejects(
        () => run(exportModel, path("moe"), path("x"), "--as", as),
        CheckpointError,
        `cannot be exported as ${as}`,
      );
    }
    await assertRejects(
      () => run(grow, path("moe"), path("x"), "--layers", "4"),
      GrowthError,
      "Only dense models",
    );
    await assertRejects(() => run(upcycle, path("moe"), path("x")), GrowthError, "only dense models");
  });
});

Deno.test("a run's checkpoint is exported with what it was trained on, and what came before", async () => {
  await inFolder(async (path) => {
    await writeSmall(path("small"), { model_type: "qwen2" });
    await run(grow, path("small"), path("grown"), "--ffn", "40");
    const mesh = await MeshInMemory.start({ workers: 1, device: referenceDevice });
    const { storage: memory } = mesh;
    try {
      for (const name of await names(path("grown"))) {
        memory.files.set(`/grown/${name}`, await Deno.readFile(path(`grown/${name}`)));
      }
      memory.text("/text.txt", text);
      const outcome = await mesh.run(`
name = "longer"
[model]
folder = "grown"
[data]
train = ["text.txt"]
validation = ["text.txt"]
[[phase]]
kind = "train"
steps = 2
batch = 2
sequence = 16
learning_rate = 1e-3
`);
      assertEquals(outcome.event, "done");
      for (const [file, bytes] of memory.files) {
        if (!file.startsWith("/runs/")) continue;
        await Deno.mkdir(dirname(path(file)), { recursive: true });
        await Deno.writeFile(path(file), bytes);
      }
    } finally {
      await mesh.close();
    }
    await run(exportModel, path("runs/longer"), path("out"));
    const card = await Deno.readTextFile(path("out/README.md"));
    for (
      const part of [
        "Began as small.\n\n- grown: MLP width 20 -> 40",
        "- trained 2 steps (recipe longer)",
        "## Data\n\n- text.txt",
        "| last validation of longer |",
      ]
    ) assertStringIncludes(card, part);
    assertEquals((await openCheckpoint(storage, path("out"))).config.modelType, "qwen2");
  });
});
