import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { addLosses, decide, VoteError } from "../../coordinator/run/decide.ts";
import type { Owned } from "../../coordinator/cost/holdings.ts";
import { parseConfig } from "../../model/config.ts";

const table = ["x", "y", "z"].map((name, order): Owned => ({
  name,
  order,
  shape: [2],
  layer: 0,
  role: "router",
  decay: false,
  owner: name === "z" ? "b" : "a",
}));
const vote = (name: string, sum: number, finite = true) => ({ name, sum, finite });

Deno.test("the norm is summed in the table's order, whoever votes first", () => {
  const one = decide(table, new Map([["a", [vote("y", 1e-9), vote("x", 9)]], ["b", [vote("z", 16)]]]), 1);
  const other = decide(table, new Map([["b", [vote("z", 16)]], ["a", [vote("x", 9), vote("y", 1e-9)]]]), 1);
  assertEquals(one, other);
  assertEquals(one.commit, true);
  assertEquals(one.clip, 1 / (Math.sqrt(9 + 1e-9 + 16) + 1e-6));
});

Deno.test("a small gradient is left alone", () => {
  assertEquals(
    decide(table, new Map([["a", [vote("y", 0), vote("x", 0)]], ["b", [vote("z", 0.04)]]]), 1).clip,
    1,
  );
});

Deno.test("one gradient that is not finite refuses the step and is named", () => {
  for (const broken of [vote("y", 0, false), vote("y", NaN), vote("y", Infinity)]) {
    const verdict = decide(table, new Map([["a", [vote("x", 9), broken]], ["b", [vote("z", 16)]]]), 1);
    assertEquals([verdict.commit, verdict.clip, verdict.broken], [false, 0, ["y"]]);
  }
});

Deno.test("votes must cover every tensor once, each by its owner", () => {
  const cases: [Map<string, { name: string; sum: number; finite: boolean }[]>, string, string][] = [
    [new Map([["a", [vote("x", 1)]], ["b", [vote("z", 1)]]]), "a", "did not vote on y"],
    [new Map([["a", [vote("x", 1), vote("y", 1), vote("x", 1)]], ["b", [vote("z", 1)]]]), "a", "already"],
    [new Map([["a", [vote("x", 1), vote("y", 1), vote("z", 1)]], ["b", []]]), "a", "which b holds"],
    [
      new Map([["a", [vote("x", 1), vote("y", 1)]], ["b", [vote("z", 1), vote("q", 1)]]]),
      "b",
      "does not have",
    ],
  ];
  for (const [votes, worker, says] of cases) {
    const error = assertThrows(() => decide(table, votes, 1), VoteError);
    assertEquals(error.worker, worker);
    assertStringIncludes(error.message, says);
  }
});

Deno.test("losses do not depend on how the layers are spread", () => {
  const config = {
    ...parseConfig({
      hidden_size: 4,
      intermediate_size: 4,
      num_hidden_layers: 3,
      num_attention_heads: 1,
      num_key_value_heads: 1,
      vocab_size: 5,
      num_local_experts: 2,
      num_experts_per_tok: 1,
      router_aux_loss_coef: 0.001,
      router_z_loss_coef: 0.01,
    }),
  };
  const f = Math.fround;
  const layers = [f(1.1), f(1.7), f(0.3)], ce = f(33.7);
  const report = (ce: number, balances: number[], layer = 0) => [{
    microbatch: 0,
    layer,
    ce,
    balance: balances.reduce((a, b) => a + b, 0),
    z: 0,
    load: balances.map(() => [3, 1]),
  }];
  const together = addLosses(config, [report(ce, layers)], 1, 8);
  const apart = addLosses(config, [report(0, layers.slice(0, 1)), report(ce, layers.slice(1), 1)], 1, 8);
  assertEquals(together, apart);
  assertEquals(together.ce, ce / 8);
  assertEquals(together.load, { most: 1.5, least: 0.5 });
  assertEquals(together.loads, [[1.5, 0.5], [1.5, 0.5], [1.5, 0.5]]);
});
