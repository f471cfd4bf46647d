import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { type Cluster, uniformCluster } from "../../coordinator/cost/cluster.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import type { ArrangeRequest } from "../../coordinator/planner/schedule_choice.ts";
import { ganttSvg, ganttText } from "../../coordinator/simulator/gantt.ts";
import { ScheduleError, scheduleNames } from "../../coordinator/schedule/schedules.ts";
import { simulate } from "../../coordinator/simulator/simulator.ts";
import type { Step } from "../../coordinator/simulator/round.ts";
import { firstWorkers, runTrial, scaledBandwidth, summary } from "../../coordinator/planner/trial.ts";
import { improvements, reasons, trialText } from "../../coordinator/planner/trial_text.ts";
import { parseConfig } from "../../model/config.ts";

const config = parseConfig({
  hidden_size: 128,
  intermediate_size: 256,
  num_hidden_layers: 16,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 64,
});
const cluster = (count: number, memory = 1e9): Cluster =>
  uniformCluster(
    "test",
    Array.from({ length: count }, (_, i) => ({
      id: `w${i}`,
      profile: { flops: 1e10, bandwidth: 1e12, memory, deviceName: "card" },
    })),
    { latency: 1e-4, bandwidth: 1e9 },
  );
const request = (more: Partial<ArrangeRequest> = {}): ArrangeRequest => ({
  run: "r",
  generation: 1,
  config,
  cluster: cluster(4),
  shape: { batch: 1, sequence: 64, microbatches: 8 },
  recompute: false,
  stages: 4,
  schedule: "1f1b",
  ...more,
});

Deno.test("every schedule runs on a cluster; the split backward pass is idle least", () => {
  const idle = Object.fromEntries(
    scheduleNames.map((name) => [name, summary(runTrial(request({ schedule: name }), false)).idle]),
  );
  assert(idle["zero-bubble-v"] < idle.interleaved && idle.interleaved < idle["1f1b"], JSON.stringify(idle));
  for (const name of scheduleNames) {
    const { stages } = runTrial(request({ schedule: name }), false);
    assertEquals(stages.at(-1)!.to, 16);
    assertEquals(stages.length, name === "interleaved" || name === "zero-bubble-v" ? 8 : 4);
  }
});

Deno.test("a schedule that memory forbids says what it needs and what there is", () => {
  const fits = runTrial(request(), false);
  const most = Math.max(...fits.memory.values()) * 1.05;
  const error = assertThrows(
    () => runTrial(request({ cluster: cluster(4, most), schedule: "gpipe" }), false),
    PlanInfeasible,
  );
  assert(/worker w\d .*needs [\d.]+ MiB and lends [\d.]+ MiB/.test(error.message), error.message);
});

Deno.test("two stages on each worker need two layers for each", () => {
  const error = assertThrows(
    () => runTrial(request({ cluster: cluster(12), stages: 12, schedule: "zero-bubble-v" }), false),
    ScheduleError,
  );
  assertStringIncludes(error.message, "16 layers are enough for 8 workers");
});

Deno.test("a straggler and a link that gets slow cost time", () => {
  const plain = runTrial(request(), false).timeline.seconds;
  const changed = (changes: Cluster["changes"]) =>
    runTrial(request({ cluster: { ...cluster(4), changes } }), false).timeline.seconds;
  const ids = runTrial(request(), false).stages.map(({ worker }) => worker);
  assert(changed([{ at: plain / 2, workers: [ids[1]], factor: 3 }]) > plain * 1.3);
  assert(changed([{ at: 0, workers: [ids[1], ids[2]], factor: 100 }]) > plain * 1.3);
  assertAlmostEquals(changed([{ at: plain * 2, workers: [ids[1]], factor: 3 }]), plain, 1e-12);
});

Deno.test("more bandwidth never costs time, fewer workers are fewer", () => {
  const slow = request({ cluster: scaledBandwidth(cluster(4), 0.01) });
  assert(
    runTrial(slow, false).timeline.seconds > runTrial(request(), false).timeline.seconds,
  );
  assertEquals(firstWorkers(cluster(4), 2).workers.length, 2);
});

Deno.test("a plan is explained in words and pictures", () => {
  const trial = runTrial(request({ stages: undefined }), true);
  const text = trialText(trial);
  assertStringIncludes(text, "w0");
  assertStringIncludes(text, "every division was considered".slice(0, 5));
  assert(reasons(trial).length > 0);
  assert(improvements(trial).some((line) => line.startsWith("microbatches = 4")));
  const names = trial.request.cluster.workers.map(({ id }) => `<${id}>`);
  const svg = ganttSvg(trial.timeline, { title: "a < b & c", names });
  assert(svg.startsWith("<svg") && svg.includes("a &lt; b &amp; c") && !svg.includes("<w0>"));
  const passes = trial.timeline.spans.filter(({ work }) => work === "forward" || work === "backward").length;
  assert(svg.split("<title>").length - 1 >= passes);
  assert(ganttText(trial.timeline, names)[0].includes("F"));
});

Deno.test("what is sent together leaves one after the other, through the slowest of three bottlenecks", () => {
  const send = (to: number, key: string): Step => ({ do: "send", to, key, bytes: 100 });
  const receive = (key: string): Step => ({ do: "receive", key });
  const lists = [[send(1, "a"), send(1, "b"), send(2, "c")], [receive("a"), receive("b")], [receive("c")]];
  const link = () => ({ latency: 0.5, bandwidth: 100 });
  assertEquals(simulate({ lists, link }).seconds, 2.5, "two frames on one link");
  // Three frames of two seconds each leave through one connection.
  assertEquals(simulate({ lists, link, up: [50, 1e9, 1e9] }).seconds, 6.5);
  const { traffic, workers } = simulate({ lists, link });
  assertEquals([...traffic].sort(), [["0>1", 200], ["0>2", 100]]);
  assertEquals([workers[0].sent, workers[1].received], [300, 200]);
});

Deno.test("a step of a thousand workers", () => {
  const workers = 1_000, microbatches = 8;
  const deep = { ...config, layers: workers };
  const { timeline, stages } = runTrial(
    request({
      config: deep,
      cluster: cluster(workers),
      shape: { batch: 1, sequence: 8, microbatches },
      stages: workers,
      effort: { changes: 0, starts: 1, polish: 0 },
    }),
    false,
  );
  assertEquals(stages.length, workers);
  assert(timeline.workers.every(({ busy }) => busy > 0));
});
