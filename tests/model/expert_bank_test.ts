/** Experts on another worker's rows: what is answered first, and what is done behind the answer. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { parseConfig } from "../../model/config.ts";
import { ExpertBank, ExpertRequestError } from "../../model/layers/expert_bank.ts";
import { Lease } from "../../model/lease.ts";
import { Parameters } from "../../model/parameters.ts";
import type { Precision } from "../../model/precision.ts";
import { randomStream } from "../../model/random.ts";
import { Listed } from "../on_device.ts";
import { devices } from "./devices.ts";
import { EXPERTS, SMALL } from "./small_run.ts";

const config = parseConfig({ ...SMALL, ...EXPERTS });
const held = [1, 2], counts = Uint32Array.of(3, 4), ROWS = 7;

/** A bank of two experts of layer 1, with weights that are always the same. */
function open(device: Lease, options: { recompute?: boolean; precision?: Precision } = {}) {
  const { recompute = false, precision = "f32" } = options;
  const holding = { layers: [], embedding: false, head: false, experts: new Map([[1, held]]) };
  const parameters = new Parameters(device, config, holding, { training: true, precision });
  for (const { spec: { name }, length } of parameters.tensors) {
    const draw = randomStream(3, name);
    parameters.put(name, "weight", 0, Float32Array.from({ length }, () => 0.2 * draw.normal()));
  }
  const bank = new ExpertBank(device, parameters, { recompute });
  const ask = (pass: "forward" | "backward", microbatch: number) => {
    const draw = randomStream(4, pass, microbatch);
    const rows = Float32Array.from({ length: ROWS * config.hiddenSize }, () => draw.normal()).buffer;
    return bank.host({ layer: 1, microbatch, pass, mode: "train", part: { counts, rows } });
  };
  const gradients = async () => {
    const all: number[] = [];
    for (const { spec: { name } } of parameters.tensors) all.push(...await parameters.get(name, "gradient"));
    return all;
  };
  return { bank, ask, gradients };
}

for (const { kind, device } of devices) {
  for (const recompute of [false, true]) {
    const how = recompute ? "computed again" : "kept";
    Deno.test(`${kind}, ${how}: the asker's rows are read before any product for gradients of weights`, async () => {
      const witness = new Listed(device), { bank, ask } = open(witness, { recompute });
      const before = witness.memory().used;
      await ask("forward", 0);
      witness.calls.length = 0;
      await ask("backward", 0);
      const answered = witness.calls.splice(0);
      assertEquals(answered.at(-1), "read");
      const ofWeights = (calls: string[]) => calls.filter((name) => /TN/i.test(name)).length;
      assertEquals(ofWeights(answered), 0);
      bank.hostWeights(1, 0);
      assertEquals(ofWeights(witness.calls), 2);
      assertEquals(witness.calls.length, 2);
      assertEquals(witness.memory().used, before);
      witness.close();
    });
  }

  Deno.test(`${kind}: gradients of weights add up in the order in which they are asked for`, async () => {
    const sums: number[][] = [];
    // Rows may go forward ahead; of a layer one backward pass is answered after the other.
    for (const ahead of [false, true]) {
      const lease = new Lease(device), { bank, ask, gradients } = open(lease);
      if (ahead) { for (const microbatch of [0, 1, 2]) await ask("forward", microbatch); }
      for (const microbatch of [0, 1, 2]) {
        if (!ahead) await ask("forward", microbatch);
        await ask("backward", microbatch);
        bank.hostWeights(1, microbatch);
      }
      sums.push(await gradients());
      lease.close();
    }
    assertEquals(sums[1], sums[0]);
    assertEquals(sums[0].every((sum) => sum !== 0), true);
  });

  Deno.test(`${kind}: work on weights without a backward pass before it is refused`, async () => {
    const lease = new Lease(device), { bank, ask } = open(lease);
    await ask("forward", 0);
    assertThrows(() => bank.hostWeights(1, 0), ExpertRequestError, "layer 1, microbatch 0");
    await ask("backward", 0);
    bank.hostWeights(1, 0);
    assertThrows(() => bank.hostWeights(1, 0), ExpertRequestError, "come before");
    await assertRejects(() => ask("backward", 0), ExpertRequestError, "no rows went forward");
    lease.close();
  });
}
