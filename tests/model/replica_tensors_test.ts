/** What replicas exchange while a device works: gradients that leave it, and weights that are still coming. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Slice } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { Lease } from "../../model/lease.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { LocalCompute } from "../../worker/local_compute.ts";
import { WeightsLostError } from "../../worker/replica_tensors.ts";
import { Listed, loadFresh } from "../on_device.ts";
import { devices } from "./devices.ts";
import { EXPERTS, SMALL } from "./small_run.ts";

const TOKENS = 10;
const ids = Uint32Array.from({ length: TOKENS }, (_, i) => i % SMALL.vocab_size);
const base = { stage: 0, mode: "evaluate" as const, ids, labels: ids, validLabels: TOKENS };

interface Kind {
  readonly tied: boolean;
  readonly ladder: boolean;
  readonly precision: "f32" | "bf16";
}

const plain: Kind = { tied: false, ladder: false, precision: "f32" };

function slice({ tied, ladder, precision }: Kind): Slice {
  const experts = [0, 1, 2].map(() => Array<string>(4).fill("me"));
  return {
    run: "test",
    generation: 1,
    model: { ...SMALL, ...EXPERTS, tie_word_embeddings: tied, ladder_residual: ladder },
    shape: { batch: 2, sequence: 5, microbatches: 1 },
    stages: [{ worker: "me", from: 0, to: 3, embedding: true, head: true, experts }],
    recompute: false,
    precision,
    self: "me",
    operations: { train: [], evaluate: [] },
  };
}

for (const { kind, device } of devices) {
  const opened = async (given: Slice, seed: number, on = new Lease(device)) => {
    const compute = new LocalCompute({
      device: on,
      exchanger: () => Promise.reject(new Error("nobody is asked")),
      now: () => performance.now(),
      memory: 1e9,
    });
    await loadFresh(compute, given, seed);
    return compute;
  };

  for (
    const how of [
      { tied: false, ladder: false, precision: "f32" },
      { tied: true, ladder: false, precision: "bf16" },
      { tied: false, ladder: true, precision: "f32" },
    ] as const
  ) {
    const name = [how.tied && "tied", how.ladder && "ladder residual", how.precision].filter(Boolean).join(
      ", ",
    );
    Deno.test(`${kind}, ${name}: a pass waits at each layer whose weights are coming, and uses what came`, async () => {
      const given = slice(how), config = parseConfig(given.model);
      const one = await opened(given, 6);
      await one.forward({ ...base, microbatch: 0 });
      const want = (await one.finish()).losses;
      one.close();

      const compute = await opened(given, 5), fresh = freshModel(config, 6);
      const table = parameterTable(config);
      // A pass with the old weights before: what it leaves (bf16 copies) must not be used again.
      await compute.forward({ ...base, microbatch: 0 });
      await compute.finish();
      await compute.expect(table.map(({ name }) => name));
      let ended = false;
      const passing = compute.forward({ ...base, microbatch: 0 }).then(() => ended = true);
      const layers = [...new Set(table.map(({ layer }) => layer))];
      for (const layer of layers) {
        await new Promise((resolve) => setTimeout(resolve, 0));
        assertEquals(ended, false, `it did not wait for layer ${layer}`);
        for (const { name, shape } of table.filter((spec) => spec.layer === layer)) {
          await compute.write([name], (await fresh.read(name, 0, elements(shape))).buffer);
        }
      }
      await passing;
      assertEquals((await compute.finish()).losses, want);
      compute.close();
      assertEquals(device.memory().used, 0);
    });
  }

  Deno.test(`${kind}: gradients of a layer are read before the work on the layer before it`, async () => {
    const listed = new Listed(device), compute = await opened(slice(plain), 5, listed);
    await compute.forward({ ...base, microbatch: 0, mode: "train" });
    listed.calls.length = 0;
    const leaving = [2, 1, 0].map((layer) =>
      compute.read("gradient", [`model.layers.${layer}.input_layernorm.weight`], { stage: 0, layer })
    );
    await compute.backward(0, 0);
    const pieces = listed.calls.join(" ").split("read").map((piece) => piece.trim().split(" ").length);
    assertEquals(pieces.length, 4);
    assert(pieces.every((kernels, i) => i === 3 || kernels > 10), `kernels between reads: ${pieces}`);
    assert((await Promise.all(leaving)).every((words) => new Float32Array(words).some((word) => word !== 0)));
    compute.close();
  });

  Deno.test(`${kind}: a guest's rows wait for the weights of their layer`, async () => {
    const compute = await opened(slice(plain), 5);
    const table = parameterTable(parseConfig(slice(plain).model));
    const experts = table.filter(({ layer, expert }) => layer === 1 && expert !== undefined);
    const rows = new Float32Array(2 * SMALL.hidden_size).fill(1).buffer;
    const request = { microbatch: 0, pass: "forward" as const, mode: "evaluate" as const };
    const part = () => ({ counts: Uint32Array.of(0, 1, 1, 0), rows: rows.slice() });
    await compute.expect(experts.map(({ name }) => name));
    assert((await compute.host({ ...request, layer: 0, part: part() })).byteLength > 0);
    const waiting = compute.host({ ...request, layer: 1, part: part() });
    for (const { name, shape } of experts) await compute.write([name], new ArrayBuffer(4 * elements(shape)));
    assertEquals(new Float32Array(await waiting), new Float32Array(2 * SMALL.hidden_size));
    compute.close();
  });

  Deno.test(`${kind}: who waits for weights that will not come any more hears of it`, async () => {
    const compute = await opened(slice(plain), 5);
    await compute.expect(["model.norm.weight"]);
    const waiting = compute.forward({ ...base, microbatch: 0 });
    waiting.catch(() => {});
    await compute.expect([]);
    await assertRejects(() => waiting, WeightsLostError, "layer 3");
    const later = { ...base, microbatch: 1 };
    await assertRejects(() => compute.forward(later), WeightsLostError, "layer 3");
    await compute.expect(["model.norm.weight"]);
    const again = compute.forward({ ...base, microbatch: 2 });
    await compute.write(["model.norm.weight"], new ArrayBuffer(4 * SMALL.hidden_size));
    await again;
    compute.close();
  });
}
