/**
 * What does the ladder residual cost and save beside the plain one? Validation loss on the same tokens of real text, and the
 * time of a step where experts lie behind a slow link, simulated and measured. Nothing is wanted: docs/ says what came out.
 * `--seeds=0` leaves training out, `--latency=0` (ms) measuring. Legs lie in --folder and are not trained again.
 *
 * @module
 */
import { join } from "@std/path";
import { say } from "../../cli/verb.ts";
import { choosePlan } from "../../coordinator/planner/choose_plan.ts";
import { table } from "../../coordinator/amounts.ts";
import { parseConfig } from "../../model/config.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import { memoryMesh } from "../mesh/mesh_runs.ts";
import { benchText, progress, runLeg } from "../recipe/one_worker.ts";

/** One line for the list of benches. */
export const title = "ladder residual beside the plain one: loss, and steps with experts far away";

const defaults = {
  tokens: 300_000,
  seeds: 3,
  "learning-rate": 3e-3,
  /** Milliseconds from worker to worker in the measured mesh. */
  latency: 20,
};

const BATCH = 8, SEQUENCE = 128;
const residuals = [["plain", false], ["ladder", true]] as const;

function lossRecipe(
  name: string,
  ladder: boolean,
  seed: number,
  sizes: typeof defaults,
  data: string,
): string {
  const steps = Math.ceil(sizes.tokens / (BATCH * SEQUENCE));
  return `name = "${name}"
[model]
hidden_size = 48
intermediate_size = 48
num_hidden_layers = 6
num_attention_heads = 4
num_key_value_heads = 2
attention_bias = true
num_local_experts = 4
num_experts_per_tok = 2
router_aux_loss_coef = 0.01
router_z_loss_coef = 0.001
rope_theta = 10000.0
ladder_residual = ${ladder}
seed = ${seed}
${data}[[phase]]
kind = "train"
steps = ${steps}
batch = ${BATCH}
sequence = ${SEQUENCE}
learning_rate = ${sizes["learning-rate"]}
warmup = ${Math.ceil(steps / 20)}
seed = ${seed}
evaluate_every = ${Math.ceil(steps / 3)}
evaluate_batches = 48
checkpoint_every = 100
`;
}

/** The model of the timed steps: attention of a microbatch takes about as long as rows are away. */
const timed = {
  hidden_size: 128,
  intermediate_size: 128,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  attention_bias: true,
  vocab_size: 259,
  num_local_experts: 4,
  num_experts_per_tok: 2,
};
const STEPS = 7, MICROBATCHES = 2, TIMED_BATCH = 8;

/** Seconds of a step on the simulator's clock: one stage, one host of experts. */
function simulated(ladder: boolean, latency: number): number {
  const config = parseConfig({ ...timed, ladder_residual: ladder });
  // A core of the machine that the benches run on, as it measures itself.
  const profile = { flops: 12e9, bandwidth: 8e9, launch: 3e-5, memory: 1e10, deviceName: "a core" };
  const workers = ["w0", "w1"].map((id) => ({ id, profile }));
  const link = () => ({ latency, bandwidth: 12e6 });
  const shape = { batch: TIMED_BATCH / MICROBATCHES, sequence: SEQUENCE, microbatches: MICROBATCHES };
  const pinned = { stages: 1, expertHosts: 1, recompute: false };
  return choosePlan({ run: "ladder", generation: 1, config, workers, link, shape, ...pinned }).seconds!;
}

/** Median seconds of a step of two workers in one process whose link has a delay. */
async function measured(ladder: boolean, latency: number, data: string, folder: string): Promise<number> {
  const keys = Object.entries({ ...timed, ladder_residual: ladder, seed: 1 })
    .filter(([key]) => key !== "vocab_size").map(([key, value]) => `${key} = ${value}\n`).join("");
  const recipe =
    `name = "timed-${crypto.randomUUID()}"\n[model]\n${keys}${data}[mesh]\nstages = 1\nexpert_hosts = 1
[[phase]]\nkind = "train"\nsteps = ${STEPS}\nbatch = ${TIMED_BATCH}\nmicrobatches = ${MICROBATCHES}
sequence = ${SEQUENCE}\nlearning_rate = 1e-3\nevaluate_batches = 0\n`;
  const events = await Array.fromAsync(
    memoryMesh([recipe], folder, { workers: 2, latencyMs: latency }),
  );
  // The first steps compile and tune.
  const warm = events.filter(({ event, step }) => event === "step" && Number(step) > 3);
  return median(warm.map(({ seconds }) => Number(seconds)));
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const folder = flags.text("folder") ?? join("runs", "bench-ladder");
  const sizes = flags.numbers(defaults), data = await benchText(folder);
  for (const latency of [0.001, 0.02, 0.1]) {
    const [plain, ladder] = residuals.map(([, ladder]) => simulated(ladder, latency));
    record({ simulated: latency, plain, ladder });
    print(
      `simulated step, ${latency * 1000} ms from worker to worker: plain ${plain.toFixed(3)} s, ladder ${
        ladder.toFixed(3)
      } s (${(plain / ladder).toFixed(3)} x as fast)`,
    );
  }
  if (sizes.latency > 0) {
    const seconds: number[][] = [[], []];
    for (let turn = 0; turn < 2; turn++) {
      for (const [i, [, ladder]] of residuals.entries()) {
        seconds[i].push(await measured(ladder, sizes.latency, data, folder));
      }
    }
    const [plain, ladder] = seconds.map((each) => Math.min(...each));
    record({ measured: sizes.latency / 1000, plain, ladder, turns: seconds });
    print(
      `measured step, ${sizes.latency} ms: plain ${plain.toFixed(3)} s, ladder ${ladder.toFixed(3)} s (${
        (plain / ladder).toFixed(3)
      } x as fast)`,
    );
  }
  const rows = [["seed", "plain", "ladder", "difference"]];
  for (let seed = 1; seed <= sizes.seeds; seed++) {
    const nll: number[] = [];
    for (const [what, ladder] of residuals) {
      const name = `${what}-${seed}`;
      const { report } = await runLeg(
        folder,
        lossRecipe(name, ladder, seed, sizes, data),
        progress(name, 100),
      );
      nll.push(report.validations.at(-1)?.nll ?? NaN);
    }
    const [plain, ladder] = nll;
    record({ seed, plain, ladder });
    say(`  seed ${seed}: plain ${plain.toFixed(4)}, ladder ${ladder.toFixed(4)}`);
    rows.push([`${seed}`, plain.toFixed(4), ladder.toFixed(4), (ladder - plain).toFixed(4)]);
  }
  if (sizes.seeds > 0) print(...table(rows));
}
