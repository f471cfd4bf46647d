/** Domains are drawn in their proportions, every window once an epoch. */
import { assert, assertEquals } from "@std/assert";
import { Mixture } from "../../data/mixture.ts";

const domains = [
  { name: "a", proportion: 0.6, windows: 50 },
  { name: "b", proportion: 0.3, windows: 40 },
  { name: "c", proportion: 0.1, windows: 7 },
];

Deno.test("any stretch of samples has the proportions", () => {
  const mixture = new Mixture(domains, 3);
  for (const [from, count] of [[0, 10], [137, 100], [8_150, 1_000], [1e9, 5_000]]) {
    const seen = [0, 0, 0];
    for (let i = 0; i < count; i++) seen[mixture.at(from + i).domain]++;
    domains.forEach(({ proportion }, d) => {
      assert(Math.abs(seen[d] - proportion * count) <= 2 + count / 4096, `${from}: ${seen}`);
    });
  }
});

Deno.test("a domain's windows come once an epoch, in another order each time and for each seed", () => {
  const read = (seed: number) => {
    const mixture = new Mixture(domains, seed), epochs: number[][] = [];
    for (let i = 0; i < 400; i++) {
      const { domain, epoch, window } = mixture.at(i);
      if (domain === 1) (epochs[epoch] ??= []).push(window);
    }
    return epochs;
  };
  const [first, second] = read(1);
  assertEquals(first.toSorted((a, b) => a - b), Array.from({ length: 40 }, (_, i) => i));
  assertEquals(second.toSorted((a, b) => a - b), first.toSorted((a, b) => a - b));
  assert(first.join() !== second.join() && first.join() !== read(2)[0].join());
  assertEquals(read(1), read(1));
});

Deno.test("samples of a microbatch share a domain where that is asked for", () => {
  const mixture = new Mixture(domains, 1, 4), seen = new Set<string>();
  for (let turn = 0; turn < 200; turn++) {
    const samples = [0, 1, 2, 3].map((i) => mixture.at(4 * turn + i));
    assertEquals(new Set(samples.map(({ domain }) => domain)).size, 1);
    for (const { domain, epoch, window } of samples) {
      const key = `${domain}/${epoch}/${window}`;
      assert(!seen.has(key), key);
      seen.add(key);
    }
  }
});
