import { assert, assertEquals, assertThrows } from "@std/assert";
import { ModelError } from "../../model/errors.ts";
import { checkSampling, chooseToken, likeliest } from "../../model/text/sampling.ts";

const LOGITS = Float32Array.of(1, 3, -2, 3, 0.5, -Infinity);

/** Shares of tokens over many positions. */
function shares(options: { temperature: number; topP: number; seed?: number }): number[] {
  const n = 20_000;
  const counts = new Array(LOGITS.length).fill(0);
  for (let p = 0; p < n; p++) counts[chooseToken(LOGITS, { seed: 4, ...options }, p)] += 1 / n;
  return counts;
}

function softmax(temperature: number): number[] {
  const exps = [...LOGITS].map((x) => Math.exp(x / temperature));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / sum);
}

Deno.test("greedy takes the likeliest token, the first of equal ones", () => {
  assertEquals(likeliest(LOGITS), 1);
  assertEquals(chooseToken(LOGITS, { temperature: 0, topP: 1, seed: 9 }, 3), 1);
});

Deno.test("draws follow the softmax at the temperature", () => {
  for (const temperature of [0.5, 1, 2]) {
    const expected = softmax(temperature);
    shares({ temperature, topP: 1 }).forEach((share, token) => {
      const probability = expected[token];
      assert(Math.abs(share - probability) < 0.015, `token ${token}: ${share} instead of ${probability}`);
    });
  }
});

Deno.test("top-p keeps the smallest set of likeliest tokens that reaches the share", () => {
  const p = softmax(1);
  // Tokens 1 and 3 are equally likely and together have p[1] + p[3] = 0.83 of all.
  const two = shares({ temperature: 1, topP: p[1] + p[3] - 0.01 });
  assertEquals(two.map((share) => share > 0), [false, true, false, true, false, false]);
  assert(Math.abs(two[1] - 0.5) < 0.015);
  const three = shares({ temperature: 1, topP: p[1] + p[3] + 0.01 });
  assertEquals(three.map((share) => share > 0), [true, true, false, true, false, false]);
  const kept = p[0] + p[1] + p[3];
  assert(Math.abs(three[0] - p[0] / kept) < 0.015);
  assertEquals(shares({ temperature: 1, topP: 1e-9 }).map((share) => share > 0), [
    false,
    true,
    false,
    false,
    false,
    false,
  ]);
});

Deno.test("a draw depends on seed and position alone", () => {
  const options = { temperature: 2, topP: 0.99, seed: 1 };
  const draws = (seed: number) =>
    Array.from({ length: 40 }, (_, p) => chooseToken(LOGITS, { ...options, seed }, p)).join("");
  assertEquals(draws(1), draws(1));
  assert(draws(1) !== draws(2));
  assert(new Set(draws(1)).size > 1);
});

Deno.test("settings and logits that mean nothing are refused", () => {
  const good = { temperature: 1, topP: 1, seed: 0 };
  for (const bad of [{ temperature: -1 }, { temperature: NaN }, { topP: 0 }, { topP: 1.1 }, { seed: NaN }]) {
    assertThrows(() => checkSampling({ ...good, ...bad }), RangeError, "Cannot sample");
  }
  for (const logits of [[0, NaN, 1], [Infinity, 0], [-Infinity, -Infinity]]) {
    assertThrows(() => chooseToken(Float32Array.from(logits), good, 0), ModelError, "logit");
  }
});
