import { assert, assertEquals } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { caseKind, readGrownCase, readTrainingCase } from "../../model/conformance/conformance_files.ts";
import { checkGrownCase } from "../../model/conformance/conformance_growth.ts";
import {
  arraySource,
  checkTrainingCase,
  conformanceLimits,
  passes,
  relativeError,
} from "../../model/conformance/conformance.ts";
import { CheckpointError } from "../../model/errors.ts";
import { devices } from "./devices.ts";

const golden = new URL("../golden/", import.meta.url).pathname;
const cases = ["moe-3x2", "moe-9x1-idle", "dense-tied-70"];
const grown = ["grow-aki-7-layers", "grow-scaled-identity", "upcycle-3x2"];
const files = denoRuntime().storage;

for (const { kind, device } of devices) {
  for (const name of cases) {
    Deno.test(`${kind}: ${name} agrees with the float64 answers`, async () => {
      const verdict = await checkTrainingCase(device, await readTrainingCase(files, golden + name));
      assert(passes(verdict), JSON.stringify([...verdict]));
    });
  }

  for (const name of grown) {
    Deno.test(`${kind}: ${name} grows to the float64 answer`, async () => {
      const made = await caseKind(files, golden + name);
      assert(made === "growth" || made === "upcycle");
      const verdict = await checkGrownCase(device, await readGrownCase(files, golden + name, made));
      assert(passes(verdict), JSON.stringify([...verdict]));
    });
  }

  Deno.test(`${kind}: a wrong weight is noticed in every kind of answer`, async () => {
    const given = await readTrainingCase(files, `${golden}moe-3x2`);
    const name = "model.layers.1.self_attn.o_proj.weight";
    const weights = new Map(given.weights);
    weights.set(name, given.weights.get(name)!.map((weight, i) => i === 3 ? weight + 0.5 : weight));
    const verdict = await checkTrainingCase(device, { ...given, weights });
    assertEquals(verdict.size, 4);
    for (const [what, { error }] of verdict) assert(error > conformanceLimits[what], `${what} ${error}`);
  });
}

Deno.test("an answer that is all zero must be met exactly", () => {
  assertEquals(relativeError(new Float32Array(3), new Float32Array(3)), 0);
  assertEquals(relativeError(Float32Array.of(0, 1e-30, 0), new Float32Array(3)), Infinity);
  assertEquals(relativeError(Float32Array.of(NaN), Float32Array.of(1)), Infinity);
  assertEquals(relativeError(Float32Array.of(1, 2), Float32Array.of(1)), Infinity);
});

Deno.test("a case without one of its tensors is refused by name", async () => {
  const { config, weights } = await readTrainingCase(files, `${golden}dense-tied-70`);
  const fewer = new Map([...weights].filter(([name]) => name !== "model.norm.weight"));
  let message = "";
  try {
    arraySource(config, fewer);
  } catch (error) {
    assert(error instanceof CheckpointError);
    message = error.message;
  }
  assert(message.includes("model.norm.weight"), message);
});
