/**
 * What does the recipe save? Compute (floating-point operations of all phases, preparation included) and seconds until it
 * reaches the validation loss of a mixture of experts that was trained from scratch; and the paper's Table 6 by the same
 * formulas. Wanted: at most 0.8 of the baseline's compute (goal 0.5).
 *
 * The baseline takes the best of three learning rates, each decayed to its end. The recipe trains a small dense model,
 * grows it, trains, upcycles it and trains on; its last phase has no decay before its end either. Legs lie in --folder and
 * are not trained again; sizes and lengths are flags.
 *
 * @module
 */
import { join } from "@std/path";
import { duration, number, table } from "../../coordinator/amounts.ts";
import { reaches } from "../../coordinator/report/report_savings.ts";
import { extrapolated, paperLegs, savings } from "../../coordinator/report/savings.ts";
import { parseConfig } from "../../model/config.ts";
import { countParameters } from "../../model/tensors.ts";
import type { BenchFlags, BenchOptions, Output } from "../harness/bench.ts";
import { benchText, type Leg, progress, runLeg } from "./one_worker.ts";

/** One line for the list of benches. */
export const title = "compute saved by the recipe beside training from scratch, and Table 6 (hours)";

const SEQUENCE = 128;

/** Sizes and lengths. The defaults need hours on two cores; docs/ says what was run. */
const defaults = {
  // The large model: a mixture of experts of 1.3 million parameters.
  hidden: 96,
  ffn: 96,
  layers: 5,
  heads: 4,
  experts: 8,
  // The small dense model that the recipe begins with.
  "small-hidden": 48,
  "small-ffn": 48,
  "small-layers": 3,
  "small-heads": 2,
  batch: 8,
  /** Tokens of the baseline for each active parameter. */
  "tokens-per-parameter": 15,
  /** Shares of the baseline's tokens that the recipe's three phases train on. */
  prepare: 0.4,
  grown: 0.15,
  mixture: 0.35,
  seeds: 3,
  "learning-rate": 3e-3,
};
type Sizes = typeof defaults;

function sizesOf(sizes: Sizes, small: boolean): string {
  return `hidden_size = ${small ? sizes["small-hidden"] : sizes.hidden}
intermediate_size = ${small ? sizes["small-ffn"] : sizes.ffn}
num_hidden_layers = ${small ? sizes["small-layers"] : sizes.layers}
num_attention_heads = ${small ? sizes["small-heads"] : sizes.heads}
`;
}

function model(sizes: Sizes, small: boolean): string {
  return `[model]
${sizesOf(sizes, small)}num_key_value_heads = 2
head_dim = ${sizes.hidden / sizes.heads}
attention_bias = true
max_position_embeddings = 512
rope_theta = 10000.0
`;
}

function phase(sizes: Sizes, tokens: number, rate: number, more: string): string {
  const steps = Math.ceil(tokens / (sizes.batch * SEQUENCE));
  return `[[phase]]
kind = "train"
steps = ${steps}
batch = ${sizes.batch}
sequence = ${SEQUENCE}
learning_rate = ${rate}
warmup = ${Math.ceil(steps / 20)}
evaluate_every = ${Math.max(1, Math.round(steps / 10))}
evaluate_batches = 64
checkpoint_every = 100
${more}`;
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  table6({ record, print });
  const folder = flags.text("folder") ?? join("runs", "bench-savings");
  const sizes = flags.numbers(defaults), data = await benchText(folder);
  const experts = `num_local_experts = ${sizes.experts}
num_experts_per_tok = 2
router_aux_loss_coef = 0.01
router_z_loss_coef = 0.001
`;
  const { total, active } = countParameters(
    parseConfig({
      hidden_size: sizes.hidden,
      intermediate_size: sizes.ffn,
      num_hidden_layers: sizes.layers,
      num_attention_heads: sizes.heads,
      num_key_value_heads: 2,
      head_dim: sizes.hidden / sizes.heads,
      attention_bias: true,
      num_local_experts: sizes.experts,
      num_experts_per_tok: 2,
      vocab_size: 259,
    }),
  );
  const tokens = sizes["tokens-per-parameter"] * active;
  print(`Baseline: ${number(total)} parameters, ${number(active)} active, ${number(tokens)} tokens`);
  const scratch = (rate: number, seed: number) => {
    const name = `scratch-${rate}-${seed}`;
    return runLeg(
      folder,
      `name = "${name}"\n${model(sizes, false)}${experts}seed = ${seed}\n${data}${
        phase(sizes, tokens, rate, `seed = ${seed}\n`)
      }`,
      progress(name),
    );
  };
  const rates = [0.5, 1, 2].map((factor) => factor * sizes["learning-rate"]);
  const sweep: { rate: number; leg: Leg; nll: number }[] = [];
  for (const rate of rates) {
    const leg = await scratch(rate, 1);
    sweep.push({ rate, leg, nll: finalLoss(leg) });
    record({ sweep: rate, nll: finalLoss(leg) });
    print(`from scratch, learning rate ${rate}: ${finalLoss(leg).toFixed(4)}`);
  }
  const best = sweep.reduce((a, b) => b.nll < a.nll ? b : a);
  const rows = [["seed", "from scratch", "recipe", "operations to its loss", "seconds", "share"]];
  for (let seed = 1; seed <= sizes.seeds; seed++) {
    const baseline = seed === 1 ? best.leg : await scratch(best.rate, seed);
    const name = `recipe-${seed}`;
    const leg = await runLeg(
      folder,
      `name = "${name}"\n${model(sizes, true)}seed = ${seed}\n${data}` +
        phase(
          sizes,
          sizes.prepare * tokens,
          2 * best.rate,
          `schedule = "wsd"\nfinal_ratio = 0.5\nseed = ${seed}\n`,
        ) +
        `[[phase]]\nkind = "grow"\n${
          sizesOf(sizes, false)
        }num_key_value_heads = 2\ndepth = "interpolate"\nspread = 0.2\nseed = ${seed}\n` +
        phase(
          sizes,
          sizes.grown * tokens,
          best.rate,
          `schedule = "wsd"\nfinal_ratio = 0.5\nseed = ${seed}\n`,
        ) +
        `[[phase]]\nkind = "upcycle"\nseed = ${seed}\n${experts}` +
        phase(sizes, sizes.mixture * tokens, best.rate, `seed = ${seed}\n`),
      progress(name),
    );
    const target = finalLoss(baseline), reached = reaches(leg.report.validations, target);
    const whole = baseline.report.total;
    const result = {
      seed,
      baseline: target,
      recipe: finalLoss(leg),
      baselineFlops: whole.flops,
      baselineSeconds: whole.seconds,
      flops: reached?.flops ?? null,
      seconds: reached?.seconds ?? null,
      share: reached === undefined ? null : reached.flops / whole.flops,
    };
    record(result);
    rows.push([
      `${seed}`,
      target.toFixed(4),
      result.recipe.toFixed(4),
      `${reached ? number(reached.flops) : "not reached"} of ${number(whole.flops)}`,
      `${reached ? duration(reached.seconds) : "-"} of ${duration(whole.seconds)}`,
      result.share === null ? "-" : result.share.toFixed(3),
    ]);
  }
  print(...table(rows));
}

function finalLoss({ report }: Leg): number {
  return report.validations.at(-1)?.nll ?? NaN;
}

/** The paper's Table 6: 4.12 and 3.35. */
function table6({ record, print }: Output): void {
  const { time, compute } = savings(paperLegs, extrapolated(paperLegs));
  record({ table6: { time, compute } });
  print(`Table 6: time saving ${time.toFixed(2)}, compute saving ${compute.toFixed(2)}`);
}
