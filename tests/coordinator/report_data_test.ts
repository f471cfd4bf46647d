/** Reports and savings: what comes out of events, and of the paper's table. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import type { RunEvent } from "../../coordinator/events.ts";
import { curveChart, loadChart, short, ticks } from "../../coordinator/report/report_charts.ts";
import { reportData } from "../../coordinator/report/report_of_events.ts";
import { reaches } from "../../coordinator/report/report_savings.ts";
import { reportPage } from "../../coordinator/report/report_page.ts";
import { extrapolated, paperLegs, savings } from "../../coordinator/report/savings.ts";

Deno.test("Table 6 comes out as the paper says", () => {
  const { time, compute, days } = savings(paperLegs, extrapolated(paperLegs));
  assertEquals(time.toFixed(2), "4.12");
  assertEquals(compute.toFixed(2), "3.35");
  assertAlmostEquals(days.recipe, 51.846, 1e-3);
  assertEquals(days.scratch, 213.8);
});

const plan = (workers: number): RunEvent => ({
  event: "plan",
  run: "a <b>",
  folder: "/runs/a",
  generation: 1,
  parameters: 100 * workers,
  workers: Array.from({ length: workers }, (_, w) => ({
    worker: `w${w}`,
    device: "a device",
    experts: [],
    parameters: 100,
    bytes: 400,
    flops: 1e9,
  })),
  idle: [],
  shape: { batch: 2, sequence: 5, microbatches: 1 },
  recompute: false,
} as unknown as RunEvent);
const step = (
  phase: number,
  step: number,
  more: Partial<Extract<RunEvent, { event: "step" }>> = {},
): RunEvent => ({
  event: "step",
  phase,
  step,
  steps: 4,
  committed: true,
  loss: 5 - step,
  ce: 5 - step,
  balance: 0,
  z: 0,
  norm: 1,
  clip: 1,
  learningRate: 0.1,
  tokens: 10,
  flops: 1000,
  seconds: 2,
  tokensPerSecond: 5,
  secondsLeft: 0,
  workers: [],
  ...more,
});
const evaluation = (phase: number, step: number, nll: number): RunEvent => ({
  event: "evaluation",
  phase,
  step,
  nll,
  bitsPerByte: nll / Math.LN2,
  tokens: 99,
});
const loss = (nll: number) => ({ nll, bitsPerByte: nll / Math.LN2, tokens: 99 });
const upcycled: RunEvent = {
  event: "switch",
  phase: 1,
  kind: "upcycle",
  lines: ["dense -> 2 experts"],
  exact: true,
  parameters: { before: 100, after: 300, active: 200 },
  before: loss(3),
  after: loss(3),
};
const events: RunEvent[] = [
  plan(1),
  ...[1, 2, 3].map((n) => step(0, n)),
  // Stopped here and gone on from step 2: step 3 is done again.
  { event: "resumed", from: "x", position: { phase: 0, step: 2, committed: 2, moments: 2 } },
  plan(1),
  step(0, 3, { ce: 7 }),
  step(0, 4),
  evaluation(0, 4, 3),
  plan(2),
  evaluation(2, 0, 3),
  upcycled,
  step(2, 1, { flops: 3000, seconds: 4 }),
  { event: "experts", phase: 2, step: 1, load: [[0.5, 1.5]] },
  evaluation(2, 1, 2.5),
  { event: "done", position: { phase: 3, step: 0, committed: 5, moments: 1 }, path: "p", seconds: 9 },
];

Deno.test("a report counts each step once, the later time", () => {
  const data = reportData(events);
  assertEquals(data.state, "done");
  assertEquals(
    data.training.map(({ phase, step, tokens, flops, loss }) => [phase, step, tokens, flops, loss]),
    [
      [0, 1, 10, 1000, 4],
      [0, 2, 20, 2000, 3],
      [0, 3, 30, 3000, 7],
      [0, 4, 40, 4000, 1],
      [2, 1, 50, 7000, 4],
    ],
  );
  assertEquals(data.phases.map(({ phase, steps, workers, seconds }) => [phase, steps, workers, seconds]), [
    [0, 4, 1, 8],
    [2, 1, 2, 4],
  ]);
  assertEquals(data.switches[0].tokens, 40);
  assertEquals(data.validations.map(({ tokens, nll }) => [tokens, nll]), [[40, 3], [40, 3], [50, 2.5]]);
  assertEquals(data.total.seconds, 12);
});

Deno.test("without a run from scratch the factors are an extrapolation and say so", () => {
  const { savings } = reportData(events);
  assertEquals(savings!.against, "extrapolated");
  // 50 tokens at 10 tokens in 4 seconds: 20 s, against 8 s + 4 s; two workers against one and two.
  assertAlmostEquals(savings!.time, 20 / 12);
  assertAlmostEquals(savings!.compute, 2 * 20 / (8 + 2 * 4));
  assertAlmostEquals(savings!.arithmetic, 5 * 3000 / 7000);
  assertStringIncludes(savings!.notes[0], "No run from scratch was made");
});

Deno.test("a run from scratch counts until it reaches the same loss", () => {
  const scratch = reportData([
    plan(2),
    ...[1, 2, 3, 4].flatMap((n) => [step(0, n, { flops: 3000, seconds: 4 }), evaluation(0, n, 4 - n / 2)]),
  ]);
  const { savings } = reportData(events, scratch);
  assertEquals(savings!.against, "measured");
  assertAlmostEquals(savings!.arithmetic, 9000 / 7000, 1e-9, "2.5 is reached at step 3");
  assertAlmostEquals(savings!.time, 12 / 12);
  const never = reportData(events.map((e) => e.event === "evaluation" ? { ...e, nll: 1 } : e), scratch);
  assertStringIncludes(never.savings!.notes[0], "lower bounds");
  const between = reaches(scratch.validations, 2.75);
  assertAlmostEquals(between!.flops, 7500);
});

Deno.test("the page is whole by itself and escapes what it shows", () => {
  const page = reportPage(reportData(events));
  for (
    const part of [
      "Loss against tokens",
      "Loss against compute",
      "Load of each expert",
      "Learning rate",
      "Throughput",
    ]
  ) {
    assertStringIncludes(page, part);
  }
  assertStringIncludes(page, "a &lt;b&gt;");
  assert(
    !/<script|https?:|NaN|undefined|Infinity/.test(page),
    "nothing from outside, no number that is none",
  );
  assertStringIncludes(page, "prefers-color-scheme: dark");
  assertEquals(page.match(/class="mark"/g)?.length, 4, "the switch is marked on every curve");
});

Deno.test("charts have round ticks and leave out what is not finite", () => {
  assertEquals(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assertEquals(ticks(0, 2_457_600, 5), [0, 500_000, 1_000_000, 1_500_000, 2_000_000]);
  assertEquals(["1.23k", "45.7M", "0.5", "1e-5", "0"], [1234, 45.67e6, 0.5, 1e-5, 0].map(short));
  const empty = {
    title: "t",
    x: "x",
    y: "y",
    marks: [],
    series: [{ name: "a", tone: "main" as const, points: [] }],
  };
  assertEquals(curveChart(empty), "");
  assertEquals(loadChart({ title: "t", x: "x", columns: [] }), "");
});
