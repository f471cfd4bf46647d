/**
 * What does SkipPipe cost in loss on real text, at equal tokens and at equal time? A dense model of eight layers in four stages
 * is trained with every microbatch through all stages, through three and through two of them; time is that of rounds of
 * twenty simulated workers (skipping_time.ts). Also how the models do with layers missing. Nothing is wanted: docs/ says
 * what came out.
 *
 * Training runs in one process; a mesh that runs the same recipe ends in the same weights. The learning rate is constant
 * behind its warm-up, so that a curve may be read at any point. Legs lie in --folder and are not trained again.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { files } from "../../cli/model_folder.ts";
import { textLoss } from "../../cli/text_loss.ts";
import { say } from "../../cli/verb.ts";
import { table } from "../../coordinator/amounts.ts";
import { openDevice } from "../../kernels/mod.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { keptLayers, onlyLayers } from "../../model/fewer_layers.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { loadTokenizer } from "../../model/text/load_tokenizer.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { benchText, type Leg, progress, runLeg } from "../recipe/one_worker.ts";
import { roundTime, STAGES } from "./skipping_time.ts";

/** One line for the list of benches. */
export const title = "SkipPipe on real text: loss at equal tokens and at equal time (half an hour)";

const LAYERS = 8, BATCH = 12, MICROBATCHES = 3, SEQUENCE = 128;
/** Bytes of each language's validation text that models with layers missing are measured on. */
const MEASURED = 16_384;

const defaults = {
  hidden: 64,
  /** Tokens of the model that is trained without skipping. */
  tokens: 400_000,
  seeds: 2,
  "learning-rate": 2e-3,
  /** Changes that the search for short rounds tries. */
  changes: 20_000,
};
type Sizes = typeof defaults;

function recipe(
  name: string,
  sizes: Sizes,
  seed: number,
  visits: number,
  steps: number,
  data: string,
): string {
  const quarter = Math.ceil(stepsOf(sizes) / 4);
  return `name = "${name}"
[model]
hidden_size = ${sizes.hidden}
intermediate_size = ${3 * sizes.hidden}
num_hidden_layers = ${LAYERS}
num_attention_heads = 4
num_key_value_heads = 2
attention_bias = true
max_position_embeddings = 512
rope_theta = 10000.0
seed = ${seed}
${data}${visits < STAGES ? `[mesh]\nstages = ${STAGES}\nvisits = ${visits}\n` : ""}[[phase]]
kind = "train"
steps = ${steps}
batch = ${BATCH}
microbatches = ${MICROBATCHES}
sequence = ${SEQUENCE}
learning_rate = ${sizes["learning-rate"]}
warmup = ${Math.min(40, stepsOf(sizes) / 4)}
schedule = "constant"
seed = ${seed}
evaluate_every = ${quarter}
evaluate_batches = 32
checkpoint_every = ${quarter}
`;
}

/** Steps of the model that is trained without skipping: quarters of them are whole. */
function stepsOf({ tokens }: Sizes): number {
  return 4 * Math.ceil(tokens / (BATCH * SEQUENCE) / 4);
}

/** Layers that stay, by what is missing. */
const cases: readonly (readonly [what: string, kept: readonly (readonly number[])[]])[] = [
  ["100 %", [keptLayers(LAYERS, LAYERS)]],
  ["75 %", [keptLayers(LAYERS, (3 * LAYERS) / 4)]],
  ["50 %", [keptLayers(LAYERS, LAYERS / 2)]],
  ["a stage missing", withoutStages(1)],
  ["two missing", withoutStages(2)],
];

/** Layers of all choices of stages but the first. */
function withoutStages(count: number): number[][] {
  const choices = Array.from(
    { length: 2 ** (STAGES - 1) },
    (_, bits) => Array.from({ length: STAGES - 1 }, (_, s) => s + 1).filter((s) => (bits >> (s - 1)) & 1),
  );
  const each = LAYERS / STAGES;
  return choices.filter(({ length }) => length === count).map((gone) =>
    Array.from({ length: LAYERS }, (_, layer) => layer).filter((layer) =>
      !gone.includes(Math.floor(layer / each))
    )
  );
}

/** Perplexity of a byte with layers missing, case by case; the mean log where a case has several choices. */
async function measured(folder: string, texts: readonly string[]): Promise<number[]> {
  const device = await openDevice();
  try {
    const checkpoint = await openCheckpoint(files, folder), tokenizer = await loadTokenizer(files, folder);
    const found: number[] = [];
    for (const [, choices] of cases) {
      let sum = 0;
      for (const kept of choices) {
        const model = await LoadedModel.load(device, onlyLayers(checkpoint, kept));
        let nats = 0, tokens = 0;
        for (const text of texts) {
          const loss = await textLoss(model, tokenizer, text, SEQUENCE);
          nats += loss.nll * loss.tokens;
          tokens += loss.tokens;
        }
        sum += nats / tokens;
        model.release();
      }
      found.push(Math.exp(sum / choices.length));
    }
    return found;
  } finally {
    device.close();
  }
}

function seeds(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

/** The checkpoint of a leg behind a step. */
function checkpointAt({ model }: Leg, step: number): string {
  return join(dirname(model), `step-${String(step).padStart(6, "0")}`);
}

/** Flags besides --json. */
export const flags: BenchFlags = { texts: { folder: "FOLDER" }, numbers: defaults };

/** Runs the bench. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const folder = flags.text("folder") ?? join("runs", "bench-skipping");
  const sizes = flags.numbers(defaults), data = await benchText(folder);
  const texts = await Promise.all(["english", "chinese"].map(async (language) => {
    const text = await Deno.readTextFile(join(folder, `${language}.validation.txt`));
    return text.slice(0, MEASURED / (language === "chinese" ? 2 : 1)); // a Chinese character has three bytes, pinyin one
  }));
  const times = new Map<number, number>();
  for (const visits of [STAGES, STAGES - 1, STAGES - 2]) {
    const { forward, seconds } = await roundTime(visits, sizes.changes);
    times.set(visits, seconds);
    record({ visits, forward, seconds });
    print(
      `${visits} of ${STAGES} stages: a round takes ${seconds.toFixed(2)} s at ${forward} s a forward pass`,
    );
  }
  const full = stepsOf(sizes);
  const header = ["trained with", "seed", "compared at", "steps", "loss", ...cases.map(([what]) => what)];
  const rows = [header];
  // All seeds of what is compared first, so that a bench that was stopped has told most.
  for (const group of [[STAGES, STAGES - 1], [STAGES - 2]]) {
    for (
      const [seed, visits] of seeds(sizes.seeds).flatMap((seed) => group.map((visits) => [seed, visits]))
    ) {
      // As many steps as fit into the time of the full pipeline.
      const steps = Math.floor(full * times.get(STAGES)! / times.get(visits)! + 1e-9);
      const name = `${visits}-of-${STAGES}-${seed}`;
      const leg = await runLeg(folder, recipe(name, sizes, seed, visits, steps, data), progress(name, 100));
      const points = [["equal tokens", full], ["equal time", steps]] as const;
      for (const [compared, step] of visits === STAGES ? points.slice(0, 1) : points) {
        const nll = leg.report.validations.find((point) => point.step === step)?.nll ?? NaN;
        const perplexities = await measured(checkpointAt(leg, step), texts);
        const named = Object.fromEntries(cases.map(([what], i) => [what, perplexities[i]]));
        record({ visits, seed, compared, step, nll, perplexity: named });
        say(`  ${name} after ${step} steps: ${nll.toFixed(4)}, ${JSON.stringify(named)}`);
        rows.push([
          `${visits} of ${STAGES} stages`,
          `${seed}`,
          compared,
          `${step}`,
          nll.toFixed(4),
          ...perplexities.map((perplexity) => perplexity.toFixed(3)),
        ]);
      }
    }
  }
  print(
    "Loss: nats a byte on the whole validation text. With layers missing: perplexity of a byte.",
    ...table(rows),
  );
}
