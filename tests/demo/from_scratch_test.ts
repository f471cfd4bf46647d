/** The demo's comparison in small: a recipe of phases, the same model from scratch for as much, and their report. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { reportData } from "../../coordinator/report/report_of_events.ts";
import { readEvents, writeReport } from "../../coordinator/report/report_files.ts";
import { fromScratch } from "../../demo/from_scratch.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { smallMesh } from "../coordinator/small_run.ts";

const train = `
[[phase]]
kind = "train"
steps = 6
batch = 4
microbatches = 2
sequence = 12
learning_rate = 1e-2
warmup = 2
evaluate_batches = 2
`;
const recipe = `name = "small"
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 4
[data]
train = ["a.txt"]
validation = 0.2
[mesh]
stages = 2
expert_hosts = 1
${train}
[[phase]]
kind = "grow"
hidden_size = 16
num_attention_heads = 4
num_hidden_layers = 3
[[phase]]
kind = "upcycle"
num_local_experts = 4
${train}`;

Deno.test("the same model from scratch with as much arithmetic, and what was saved against it", async () => {
  const mesh = await smallMesh("reference", 3);
  try {
    const outcome = await mesh.run(recipe);
    assert(outcome.event === "done", JSON.stringify(outcome));
    const { config } = await openCheckpoint(mesh.storage, outcome.path);
    const data = reportData(await readEvents(mesh.storage, "/runs/small"));
    const scratch = await mesh.run(fromScratch(recipe, data, config));
    assert(scratch.event === "done", JSON.stringify(scratch));

    const other = reportData(await readEvents(mesh.storage, "/runs/small-scratch"));
    assertEquals((await openCheckpoint(mesh.storage, scratch.path)).config, config);
    const step = other.total.flops / other.total.step;
    assertAlmostEquals(step, data.phases.at(-1)!.flops / 6, 1e-6 * step);
    assertAlmostEquals(other.total.flops, data.total.flops, step / 2);
    assertEquals(other.switches, []);
    assert(other.validations.length >= 6);

    const { data: { savings }, page } = await writeReport(mesh.storage, "/runs/small", "/runs/small-scratch");
    assertEquals(savings!.against, "measured");
    assert(savings!.arithmetic > 0 && savings!.time > 0 && savings!.compute > 0);
    const html = mesh.storage.string(page);
    assertStringIncludes(html, "small-scratch (from scratch)");
    assertStringIncludes(html, "Saved against training from scratch (measured)");
  } finally {
    await mesh.close();
  }
});
