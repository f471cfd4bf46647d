import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClusterError, parseCluster } from "../../coordinator/cost/cluster.ts";

const worker = (name: string, more = "") =>
  `[[worker]]\nname = "${name}"\ntflops = 2.0\nmemory_gbs = 100\nmemory_gib = 4\n${more}\n`;

Deno.test("a cluster has workers, and links by worker, group, region and default, in this order", () => {
  const cluster = parseCluster(`
name = "c"
[network]
latency_ms = 40
bandwidth_mbit = 8
[same_region]
latency_ms = 1
bandwidth_mbit = 800
${worker("a", 'region = "north"')}${worker("b", 'region = "north"\nup_mbit = 16')}${
    worker("twin", "count = 2")
  }
[[link]]
between = ["a", "twin-2"]
latency_ms = 5
bandwidth_mbit = 80
[[link]]
between = ["north", "twin"]
latency_ms = 9
bandwidth_mbit = 80
[[change]]
at_s = 2
worker = "b"
slower = 3
`);
  assertEquals(cluster.workers.map(({ id }) => id), ["a", "b", "twin-1", "twin-2"]);
  assertEquals(cluster.workers[0].profile.flops, 2e12);
  assertEquals(cluster.workers[0].profile.memory, 2 ** 32);
  assertEquals([cluster.workers[1].up, cluster.workers[1].down], [2e6, Infinity]);
  const latency = (a: number, b: number) => cluster.link(a, b)!.latency;
  assertEquals([latency(0, 1), latency(0, 3), latency(3, 0), latency(0, 2), latency(1, 3), latency(2, 3)], [
    0.001,
    0.005,
    0.005,
    0.009,
    0.009,
    0.04,
  ]);
  assertEquals(cluster.link(2, 3)!.bandwidth, 1e6);
  assertEquals(cluster.changes, [{ at: 2, workers: ["b"], factor: 3 }]);
});

const wrong: [what: string, text: string, says: RegExp][] = [
  ["no TOML", "name = ", /not valid TOML/],
  [
    "unknown key",
    `name = "c"\n${worker("a", "tflop = 3")}`,
    /\[\[worker\]\] 1: there is no key "tflop"; did you mean "tflops"/,
  ],
  [
    "unknown section",
    `name = "c"\n[netwrk]\n${worker("a")}`,
    /there is no key "netwrk"; did you mean "network"/,
  ],
  [
    "negative speed",
    `name = "c"\n${worker("a").replace("2.0", "-2.0")}`,
    /\[\[worker\]\] 1: tflops: too small/,
  ],
  [
    "missing speed",
    `name = "c"\n[[worker]]\nname = "a"\ntflops = 1\nmemory_gib = 1`,
    /\[\[worker\]\] 1: memory_gbs is missing/,
  ],
  ["no workers", `name = "c"`, /\[worker\] is missing/],
  ["same name twice", `name = "c"\n${worker("a")}${worker("a")}`, /Two workers are called "a"/],
  ["no link at all", `name = "c"\n${worker("a")}${worker("b")}`, /worker b has no way to a/],
  [
    "an unreachable worker: links leave it out",
    `name = "c"\n${worker("a")}${worker("b")}${worker("c")}[[link]]\nbetween = ["a", "b"]\nlatency_ms = ` +
    `1\nbandwidth_mbit = 1`,
    /The links do not connect all workers: worker c has no way to a/,
  ],
  [
    "a link to nobody",
    `name = "c"\n${worker("desk")}[[link]]\nbetween = ["desk", "dsk"]\nlatency_ms = 1\nbandwidth_mbit = 1`,
    /\[\[link\]\] 1: there is no worker or region "dsk"; did you mean "desk"/,
  ],
  [
    "a negative latency",
    `name = "c"\n${worker("a")}[network]\nlatency_ms = -1\nbandwidth_mbit = 1`,
    /\[network\]: latency_ms: too small/,
  ],
  [
    "a change of nobody",
    `name = "c"\n${worker("a")}[[change]]\nat_s = 1\nslower = 2`,
    /\[\[change\]\] 1: give either/,
  ],
];
for (const [what, text, says] of wrong) {
  Deno.test(`a cluster file is refused: ${what}`, () => {
    const { message } = assertThrows(() => parseCluster(text), ClusterError);
    assert(says.test(message), message);
  });
}

Deno.test("the examples can be read", async () => {
  const folder = new URL("../../examples/clusters/", import.meta.url), sizes: Record<string, number> = {};
  for (const name of ["laptop_desktop", "lab", "twelve_regions", "hundred_browsers"]) {
    sizes[name] = parseCluster(await Deno.readTextFile(new URL(`${name}.toml`, folder))).workers.length;
  }
  assertEquals(sizes, { laptop_desktop: 2, lab: 12, twelve_regions: 20, hundred_browsers: 100 });
});
