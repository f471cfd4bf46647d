import { assertEquals } from "@std/assert";
import { crossEntropy, IGNORED_LABEL } from "../../kernels/mod.ts";
import { assertClose, compareVariants, gpu, noise, reference, runKernel } from "./devices.ts";
import { assertGradient } from "./finite_difference.ts";

function labels(rows: number, vocab: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(noise(rows, 7), (value, t) => {
    return t % 5 === 3 ? IGNORED_LABEL : Math.floor((value + 1) / 2 * vocab);
  });
}

Deno.test("crossEntropy equals its reference", async () => {
  for (const [rows, vocab] of [[1, 1], [1, 4], [7, 5], [33, 64], [300, 259], [67, 512], [3, 5003]]) {
    for (const gradient of [0, 1]) {
      const logits = noise(rows * vocab, 1).map((value) => 15 * value);
      const arrays = {
        logits,
        labels: labels(rows, vocab),
        scale: Float32Array.of(0.37),
        loss: noise(rows, 2),
      };
      await compareVariants(crossEntropy, arrays, { rows, vocab, gradient }, {
        absolute: 5e-6,
        relative: 5e-6,
      });
    }
  }
});

Deno.test("crossEntropy survives logits far beyond the exponential's range", async () => {
  for (const device of [gpu, reference]) {
    const logits = Float32Array.of(5000, 0, -5000, 4999, -5000, 0, 1, 2);
    const arrays = {
      logits,
      labels: Uint32Array.of(2, 3),
      scale: Float32Array.of(1),
      loss: new Float32Array(2),
    };
    const written = await runKernel(device, crossEntropy, arrays, { rows: 2, vocab: 4, gradient: 1 });
    const tolerance = { absolute: 1e-6, relative: 1e-6 };
    assertClose(
      written.loss,
      [10000 + Math.log(1 + Math.exp(-1)), Math.log(1 + Math.exp(-1) + Math.exp(-2))],
      tolerance,
      "loss",
    );
    assertClose(
      written.logits.subarray(0, 4),
      [1 / (1 + Math.exp(-1)), 0, -1, 1 / (1 + Math.exp(1))],
      tolerance,
      "gradient",
    );
  }
});

Deno.test("the gradient of crossEntropy's reference is the derivative, and zero where the label is ignored", async () => {
  const [rows, vocab, scale] = [6, 9, 0.25];
  const logits = noise(rows * vocab, 1).map((value) => 3 * value);
  const targets = labels(rows, vocab);
  const arrays = { logits, labels: targets, scale: Float32Array.of(scale), loss: new Float32Array(rows) };
  const written = await runKernel(reference, crossEntropy, arrays, { rows, vocab, gradient: 1 });
  const loss = (at: Float64Array) => {
    let sum = 0;
    for (let t = 0; t < rows; t++) {
      if (targets[t] === IGNORED_LABEL) continue;
      let total = 0;
      for (let c = 0; c < vocab; c++) total += Math.exp(at[t * vocab + c]);
      sum += Math.log(total) - at[t * vocab + targets[t]];
    }
    return scale * sum;
  };
  assertGradient(written.logits, loss, logits, "dlogits");
  assertEquals([...written.logits.subarray(3 * vocab, 4 * vocab)], new Array(vocab).fill(0));
  assertEquals(written.loss[3], 0);
});
