/**
 * EfficientScale with a real pretrained model, where it lies beside the project (../shared/models/stories260k): imported,
 * grown, upcycled, and trained on over a mesh of two stages and an expert host. Skipped by name elsewhere.
 */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { quietDriver } from "../../cli/driver.ts";
import { textLoss } from "../../cli/text_loss.ts";
import { openDevice } from "../../kernels/mod.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { growModel } from "../../model/growth/growth.ts";
import { writeModel } from "../../model/checkpoint/interchange.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import type { TensorSource } from "../../model/source.ts";
import { loadTokenizer, tokenizerFiles } from "../../model/text/load_tokenizer.ts";
import { upcycledConfig, upcycleModel } from "../../model/growth/upcycle.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";

const folder = fromFileUrl(new URL("../../../shared/models/stories260k", import.meta.url));
const files = denoRuntime().storage;
const missing = await files.size(`${folder}/config.json`) === undefined;
const name = (what: string) => missing ? `${what} (skipped: ../shared/models/stories260k is not here)` : what;
quietDriver();

const sentence =
  "Once upon a time, there was a little boy named Tim. Tim had a red ball. He liked to play with it in the " +
  "park. One day, he met a big dog. The dog wanted to play too.";

const recipe = `
name = "stories"
[model]
folder = "moe"
[data]
train = ["a.txt"]
validation = ["v.txt"]
[mesh]
stages = 2
expert_hosts = 1
[[phase]]
kind = "train"
steps = 5
batch = 4
microbatches = 2
sequence = 24
learning_rate = 1e-3
schedule = "constant"
evaluate_batches = 2
`;

for (const kind of ["reference", "webgpu"] as const) {
  Deno.test({
    name: name(`stories260K grows, is upcycled and trains on over a mesh (${kind})`),
    ignore: missing,
    async fn() {
      const source = await openCheckpoint(files, folder), tokenizer = await loadTokenizer(files, folder);
      const device = await openDevice({ kind });
      const nll = async (model: TensorSource) => {
        const loaded = await LoadedModel.load(device, model);
        try {
          return (await textLoss(loaded, tokenizer, sentence, 512)).nll;
        } finally {
          loaded.release();
        }
      };
      const before = await nll(source);
      assertAlmostEquals(before, 0.7143, 5e-4);
      const wide = { ...source.config, hiddenSize: 128, intermediateSize: 344, heads: 16, layers: 8 };
      const grown = growModel(source, wide, { method: "fpi", depth: "identity", width: "copies" });
      assertAlmostEquals(await nll(grown), before, 1e-5);
      const moe = upcycleModel(grown, upcycledConfig(wide, { experts: 8, expertsPerToken: 2 }), { seed: 1 });
      assertAlmostEquals(await nll(moe), before, 1e-5);
      device.close();

      const storage = new MemoryStorage();
      await writeModel(storage, "/moe", moe, { extras: await tokenizerFiles(files, folder) });
      storage.text("/a.txt", Array.from({ length: 24 }, () => sentence).join("\n\n"));
      storage.text("/v.txt", sentence + "\n\n" + sentence);
      const mesh = await MeshInMemory.start({ workers: 3, device: () => openDevice({ kind }), storage });
      try {
        const { event } = await mesh.run(recipe);
        assertEquals(event, "done", JSON.stringify(mesh.events.at(-1)));
        const plan = mesh.events.find((e) => e.event === "plan")!;
        assertEquals(plan.workers.filter(({ layers }) => layers.length > 0).length, 2);
        assertEquals(plan.workers.filter(({ layers }) => layers.length === 0).length, 1);
        const steps = mesh.steps();
        assertEquals(steps.length, 5);
        // Windows begin anywhere in a story, and the router's losses come on top; a fresh model has ln 512 = 6.2.
        assert(steps[0].loss! < 2.2, `it begins with what it knows: ${steps[0].loss}`);
        assert(steps.at(-1)!.loss! < steps[0].loss!, `it learns: ${JSON.stringify(steps)}`);
        const after = await openCheckpoint(storage, "/runs/stories/checkpoints/step-000005");
        assertEquals(after.config, moe.config);
      } finally {
        await mesh.close();
      }
    },
  });
}
