/**
 * What is a second replica worth? Tokens a second of two replicas on memory links, a core each, beside those of one worker
 * with the same batch for each. All in processes of their own, in turn, one thread of the adapter for each device. Wanted:
 * 1.7 times the tokens a second.
 *
 * @module
 */
import { size, table } from "../../coordinator/amounts.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import { memoryMesh, modelKeys, withText } from "./mesh_runs.ts";

/** One line for the list of benches. */
export const title = "two replicas on memory links beside one worker";

/** Steps of a run, how many of them come before the devices are warm, and runs of each kind. */
const STEPS = 12, WARM = 4, TURNS = 2;
/** Share of the tokens a second of one worker that two replicas must reach. */
const LEAST = 1.7;

/** The model of bench step; each replica gets its batch. */
function recipe(name: string, replicas: number): string {
  return `
name = "${name}"
[model]
${modelKeys("step")}
seed = 1
[data]
train = ["text.txt"]
tokenizer = "bytes"
[mesh]
replicas = ${replicas}
shares = [${new Array(replicas).fill(1).join(", ")}]
[[phase]]
kind = "train"
steps = ${STEPS}
batch = ${8 * replicas}
microbatches = ${replicas}
sequence = 128
learning_rate = 3e-4
evaluate_batches = 0
`;
}

interface Step {
  readonly seconds: number;
  readonly tokens: number;
  readonly bytes: number;
  /** The largest busy share of a worker. */
  readonly busy: number;
}

async function train(folder: string, replicas: number): Promise<Step[]> {
  const text = recipe(`replicas-${crypto.randomUUID()}`, replicas), found: Step[] = [];
  for await (const line of memoryMesh([text], folder, { workers: replicas })) {
    if (line.event !== "step") continue;
    const workers = line.workers as { sent: number; busy: number }[];
    found.push({
      seconds: Number(line.seconds),
      tokens: Number(line.tokens),
      bytes: workers.reduce((sum, { sent }) => sum + sent, 0),
      busy: Math.max(...workers.map(({ busy }) => busy)),
    });
  }
  return found.slice(WARM);
}

/** Measures and prints; false where two replicas are worth less than they must be. */
export async function run({ record, print }: BenchOptions): Promise<boolean> {
  return await withText(async (folder) => {
    const one: Step[] = [], two: Step[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      one.push(...await train(folder, 1));
      two.push(...await train(folder, 2));
    }
    const speed = (steps: readonly Step[]) => median(steps.map(({ tokens, seconds }) => tokens / seconds));
    const result = {
      oneTokensPerSecond: speed(one),
      twoTokensPerSecond: speed(two),
      oneStepSeconds: median(one.map(({ seconds }) => seconds)),
      twoStepSeconds: median(two.map(({ seconds }) => seconds)),
      bytesPerStep: median(two.map(({ bytes }) => bytes)),
      ratio: speed(two) / speed(one),
      least: LEAST,
    };
    record(result);
    const row = (what: string, tokens: number, seconds: number, more: string) => [
      what,
      `${Math.round(tokens)} tokens/s`,
      `${(1000 * seconds).toFixed(0)} ms a step`,
      more,
    ];
    print(...table([
      row("one worker", result.oneTokensPerSecond, result.oneStepSeconds, ""),
      row(
        "two replicas",
        result.twoTokensPerSecond,
        result.twoStepSeconds,
        `${result.ratio.toFixed(2)} x (wanted ${LEAST}), ${size(result.bytesPerStep)} a step`,
      ),
    ]));
    return result.ratio >= LEAST;
  });
}
