/** Which schedule a plan takes: the fastest that memory permits, or the one that is asked for. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { type Cluster, uniformCluster } from "../../coordinator/cost/cluster.ts";
import { Judge } from "../../coordinator/planner/judge.ts";
import { PlanInfeasible } from "../../coordinator/errors.ts";
import { divisions } from "../../coordinator/planner/exact_search.ts";
import {
  arrangeBest,
  type ArrangeRequest,
  SCHEDULE_GAIN,
} from "../../coordinator/planner/schedule_choice.ts";
import { ScheduleError, scheduleNames } from "../../coordinator/schedule/schedules.ts";
import { runTrial } from "../../coordinator/planner/trial.ts";
import { reasons } from "../../coordinator/planner/trial_text.ts";
import { parseConfig } from "../../model/config.ts";

const config = parseConfig({
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 64,
});
const cluster = (latency: number, memory = 1e9, count = 4): Cluster =>
  uniformCluster(
    "test",
    Array.from({ length: count }, (_, i) => ({
      id: `w${i}`,
      profile: { flops: 1e10, bandwidth: 1e12, memory, deviceName: "card" },
    })),
    { latency, bandwidth: 1e9 },
  );
const request = (more: Partial<ArrangeRequest> = {}): ArrangeRequest => ({
  run: "r",
  generation: 1,
  config,
  cluster: cluster(1e-4),
  shape: { batch: 1, sequence: 64, microbatches: 8 },
  recompute: false,
  stages: 4,
  ...more,
});

Deno.test("the fastest schedule is taken, and 1F1B where none wins anything", () => {
  for (const latency of [1e-5, 1e-3, 3e-2]) {
    const of = request({ cluster: cluster(latency) });
    const each = scheduleNames.map((schedule) =>
      [schedule, arrangeBest({ ...of, schedule }).best.timeline.seconds] as const
    );
    const { best, others } = arrangeBest(of), least = Math.min(...each.map(([, seconds]) => seconds));
    const plain = each.find(([name]) => name === "1f1b")![1];
    assertEquals(best.timeline.seconds, least < SCHEDULE_GAIN * plain ? least : plain);
    assertEquals(
      new Map([...others.map(({ schedule, seconds }) => [schedule, seconds] as const), [
        best.schedule,
        best.timeline.seconds,
      ]]),
      new Map(each),
    );
  }
  assertEquals(arrangeBest(request()).best.schedule, "zero-bubble-v", "quick links: no bubbles");
  const far = arrangeBest(request({ cluster: cluster(3e-2) })).best.schedule;
  assertEquals(far, "gpipe", "far links: most under way at once");
  const alone = arrangeBest(request({ cluster: cluster(1e-4, 1e9, 1), stages: undefined }));
  assertEquals([alone.best.schedule, alone.others], ["1f1b", []]);
});

Deno.test("a schedule that memory forbids is not taken, and says what it needs and what is lent", () => {
  const of = request({ cluster: cluster(3e-2) }), free = arrangeBest(of).best;
  assertEquals(free.schedule, "gpipe");
  const plain = arrangeBest({ ...of, schedule: "1f1b" }).best;
  const between = (Math.max(...plain.memory.values()) + Math.min(...free.memory.values())) / 2;
  assert(Math.max(...plain.memory.values()) < Math.min(...free.memory.values()));
  const { best, others } = arrangeBest(request({ cluster: cluster(3e-2, between) }));
  assert(best.schedule !== "gpipe");
  for (const bytes of best.memory.values()) assert(bytes <= between);
  const why = others.find(({ schedule }) => schedule === "gpipe")!.why!;
  assert(/worker w\d .* needs [\d,.]+ MiB and lends [\d,.]+ MiB/.test(why), why);
  assertStringIncludes(why, 'It fits with schedule = "1f1b"');
  assertThrows(
    () => arrangeBest(request({ cluster: cluster(3e-2, between), schedule: "gpipe" })),
    PlanInfeasible,
    "needs",
  );
});

Deno.test("the choice is told in words", () => {
  const text = reasons(runTrial(request(), false)).join("\n");
  assert(
    /The schedule is zero-bubble-v \([\d.]+ ms a step\); beside it 1f1b [\d.]+ ms, gpipe/.test(text),
    text,
  );
  assertEquals(reasons(runTrial(request({ schedule: "gpipe" }), false)).join().includes("schedule"), false);
  // Twelve microbatches in turn over four workers; ten cannot be dealt.
  const ten = reasons(runTrial(request({ shape: { batch: 1, sequence: 64, microbatches: 10 } }), false));
  assert(
    ten.some((line) => line.includes("not interleaved: The interleaved schedule needs")),
    ten.join("\n"),
  );
});

Deno.test("leaving stages out is only done where it is asked for, and takes less time", () => {
  assert(arrangeBest(request()).others.every(({ schedule }) => schedule !== "skippipe"));
  const whole = arrangeBest(request({ schedule: "1f1b" })).best;
  const { best } = arrangeBest(request({ visits: 2 }));
  assertEquals([best.schedule, best.stages.length, best.stages.at(-1)!.head], ["skippipe", 5, true]);
  assert(best.timeline.seconds < whole.timeline.seconds);
  const passes = best.timeline.workers.map(({ busy }) => busy);
  assert(passes.slice(1).every((busy) => busy < passes[0]), "the first stage is visited by all");
  assertThrows(() => arrangeBest(request({ visits: 5 })), ScheduleError, "5 of 4 stages");
  assertThrows(
    () => arrangeBest(request({ visits: 2, schedule: "gpipe" })),
    ScheduleError,
    "leave schedule out",
  );
  const short = request({ visits: 2, cluster: cluster(1e-4, Math.min(...best.memory.values()) / 2) });
  assertThrows(() => arrangeBest(short), PlanInfeasible, "MiB");
});

Deno.test("GPipe's bound is below its simulated round, and every microbatch is kept", () => {
  for (const latency of [1e-4, 1e-2]) {
    const small = { ...config, layers: 4 };
    const setting = {
      config: small,
      cluster: cluster(latency, 1e9, 3),
      shape: { batch: 1, sequence: 64, microbatches: 5 },
      recompute: false,
    } as const;
    const gpipe = new Judge({ ...setting, schedule: "gpipe" }), plain = new Judge(setting);
    for (const division of divisions(3, 4, 0)) {
      assert(gpipe.bound(division) <= gpipe.simulate(division).seconds * (1 + 1e-12));
      const [more, less] = [gpipe, plain].map((judge) => judge.memory(division));
      for (const [worker, bytes] of less) assert(more.get(worker)! >= bytes);
      if (division.length === 1) {
        const { kept } = plain.kept(division[0]);
        assertAlmostEquals(
          (more.get(0) ?? 0) - (less.get(0) ?? 0),
          more.has(0) ? 1.1 * 4 * 4 * (4 * kept + 64 * 64) : 0,
          1,
        );
      }
    }
  }
});
