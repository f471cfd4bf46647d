/** Activation memory, from what a pass asks its device for. */
import { assert } from "@std/assert";
import { activationBytes } from "../../../bench/step/activations.ts";

Deno.test("From sequence 512 to 2048 activation memory grows linearly: nothing keeps scores of every pair", async () => {
  const sizes = await activationBytes([512, 1024, 2048]);
  const perToken = sizes.map(({ sequence, bytes }) => bytes / sequence);
  // Four times the tokens may not take more than four times the memory (a percent for what is rounded up to whole rows).
  for (const each of perToken) assert(each <= perToken[0] * 1.01, `bytes a token: ${perToken}`);
});
