import { assert, assertEquals } from "@std/assert";
import { parseConfig } from "../../model/config.ts";
import { relativeError } from "../../model/conformance/conformance.ts";
import { headLoss, headOf, rowsPerChunk } from "../../model/layers/head.ts";
import { freshModel } from "../../model/init.ts";
import { Lease } from "../../model/lease.ts";
import { Parameters } from "../../model/parameters.ts";
import { PassTables } from "../../model/layers/pass.ts";
import { randomStream } from "../../model/random.ts";
import { devices } from "./devices.ts";
import { SMALL } from "./small_run.ts";

const T = 2 * 75, D = SMALL.hidden_size, V = SMALL.vocab_size;
const config = parseConfig(SMALL);
const draw = randomStream(1, "head");
const input = Float32Array.from({ length: T * D }, () => draw.normal());
const labels = Uint32Array.from({ length: T }, (_, t) => t % 7 === 0 ? 0xffffffff : draw.integer(V));

Deno.test("a chunk of logits depends on the vocabulary alone and stays under every device's limit", () => {
  assertEquals(rowsPerChunk(512), 32768);
  assertEquals(rowsPerChunk(151_936) % 64, 0);
  assert(rowsPerChunk(151_936) * 151_936 * 4 <= 128 << 20);
});

for (const { kind, device } of devices) {
  Deno.test(`${kind}: losses and gradients are the same for logits in chunks`, async () => {
    const results = [];
    for (const most of [64, 128, 1024]) {
      const lease = new Lease(device);
      const holding = { layers: [], embedding: false, head: true, experts: new Map() };
      const parameters = new Parameters(lease, config, holding, { training: true });
      const source = freshModel(config, 2, 0.3);
      for (const { spec: { name }, length } of parameters.tensors) {
        parameters.put(name, "weight", 0, await source.read(name, 0, length));
      }
      const size = { mode: "train" as const, microbatch: 0, microbatches: 1, batch: 2, sequence: 75 };
      const pass = new PassTables(lease, config).pass(size);
      const [x, ids, scale, loss] = [T * D, T, 1, T].map((words) => lease.allocate(words, "test"));
      lease.write(x, input);
      lease.write(ids, labels);
      lease.write(scale, Float32Array.of(1 / T));
      const dx = headLoss(pass, headOf(parameters), x, { labels: ids, scale, loss }, most)!;
      const gradients = ["lm_head.weight", "model.norm.weight"].map((name) =>
        parameters.view(name, "gradient")
      );
      const buffers = await lease.read([loss, dx, ...gradients]);
      results.push(buffers.map((buffer) => new Float32Array(buffer)));
      lease.close();
    }
    const [fine, middle, whole] = results;
    for (const chunked of [fine, middle]) {
      assertEquals(chunked[0], whole[0]);
      assertEquals(chunked[1], whole[1]);
      assert(relativeError(chunked[2], whole[2]) < 1e-6);
      assertEquals(chunked[3], whole[3]);
    }
    assert(whole[2].some((word) => word !== 0));
    assertEquals(whole[0][0], 0);
  });
}
