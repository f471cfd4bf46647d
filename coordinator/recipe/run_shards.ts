/**
 * A run's text out of prepared shards: sequences are drawn by domain, in the proportions of the index, and read when they
 * are needed.
 *
 * @module
 */
import { Mixture } from "../../data/mixture.ts";
import { Shards } from "../../data/shards.ts";
import { byteTokenizerFiles } from "../../model/text/byte_tokenizer.ts";
import { windowCount } from "../../model/text/data_order.ts";
import { joinPath } from "../../model/files.ts";
import type { TokenizedText } from "../../model/text/text.ts";
import { checkVocabulary, loadTokenizer, tokenizerFiles } from "../../model/text/load_tokenizer.ts";
import type { Runtime } from "../../mesh/runtime.ts";
import { RecipeError } from "../errors.ts";
import type { Batch } from "../batch.ts";
import { pause } from "../pause.ts";
import type { PhaseData } from "../run/phase.ts";
import type { Recipe } from "./recipe.ts";
import type { ComputePhase, Phase } from "./recipe_phases.ts";
import { number } from "../amounts.ts";
import { type RunText, tokensBefore, validationBatches } from "./run_text.ts";

/** Validation tokens that are held: documents are in random order, so the first of each domain stand for all. */
const mostValidation = 1 << 25;

/** Opens the shards of a recipe and checks them. Throws ShardsError. */
export async function openShards(runtime: Runtime, recipe: Recipe, folder: string): Promise<RunText> {
  const { storage } = runtime, shards = await Shards.open(storage, folder);
  await shards.verify(() => pause(runtime));
  await checkTokenizer(runtime, recipe, shards);
  const tokenizer = await loadTokenizer(storage, folder), files = await tokenizerFiles(storage, folder);
  const validation = await readValidation(shards);
  return {
    tokenizer,
    files,
    check: (config) => checkVocabulary(tokenizer, config),
    epochs: ({ phases, data }) => countEpochs(shards, phases, data.epochs),
    phase: (phases, index) => shardData(shards, recipe, phases, index, validation),
  };
}

/** The tokenizer that the recipe names, or that its model brings, must be that of the shards. */
async function checkTokenizer({ storage }: Runtime, recipe: Recipe, shards: Shards): Promise<void> {
  const { tokenizer } = recipe.data;
  if (tokenizer === "bytes") {
    shards.checkTokenizer(byteTokenizerFiles().get("tokenizer.json")!, `the tokenizer of bytes`);
    return;
  }
  const given = tokenizer ?? (recipe.model.kind === "folder" ? recipe.model.folder : undefined);
  if (given === undefined) return;
  const path = given.endsWith(".json") ? given : joinPath(given, "tokenizer.json");
  const size = await storage.size(path);
  if (size === undefined) {
    // A model's folder may lack one; a tokenizer that is named may not.
    if (tokenizer === undefined) return;
    throw new RecipeError(`[data]: there is no tokenizer ${path}.`);
  }
  shards.checkTokenizer(await storage.read(path, 0, size), path);
}

async function readValidation(shards: Shards): Promise<TokenizedText> {
  const { domains } = shards.index, most = Math.floor(mostValidation / domains.length);
  const parts: Uint32Array[] = [];
  let length = 0, bytes = 0;
  for (const [d, { validation }] of domains.entries()) {
    const run = shards.run(d, "validation"), taken = Math.min(run.tokens, most);
    if (taken === 0) continue;
    parts.push(await run.read(0, taken));
    length += taken;
    bytes += validation.bytes * taken / run.tokens;
  }
  const tokens = new Uint32Array(length);
  let at = 0;
  for (const part of parts) {
    tokens.set(part, at);
    at += part.length;
  }
  return { tokens, bytes };
}

/** How often the domain that is read most often is read. */
function countEpochs(shards: Shards, phases: readonly Phase[], allowed: number) {
  const tokens = tokensBefore(phases, phases.length);
  const by = shards.index.domains.map(({ name, proportion, train }) => ({
    name,
    wanted: tokens * proportion,
    there: train.tokens,
    epochs: tokens * proportion / train.tokens,
  }));
  const most = by.reduce((a, b) => b.epochs > a.epochs ? b : a);
  if (most.epochs <= allowed) return { tokens, epochs: most.epochs };
  throw new RecipeError(
    `The recipe asks for ${number(tokens)} tokens of training, ${number(most.wanted)} of them from the ` +
      `domain "${most.name}", which has ${number(most.there)}: that is ${number(most.epochs)} epochs, ` +
      `and [data] epochs allows ${allowed}. Give the domain more text or a smaller proportion, train on ` +
      `fewer tokens, or set epochs = ${Math.ceil(most.epochs)} to read it so often.`,
  );
}

/** The rounds of one phase, from 0. */
function shardData(
  shards: Shards,
  recipe: Recipe,
  phases: readonly Phase[],
  index: number,
  validation: TokenizedText,
): PhaseData {
  const phase = phases[index] as ComputePhase, { sequence, batch } = phase;
  const perTurn = recipe.data.mix === "microbatch" ? batch / phase.microbatches : 1;
  const runs = shards.index.domains.map((_, d) => shards.run(d, "train"));
  const domains = shards.index.domains.map(({ name, proportion }, d) => ({
    name,
    proportion,
    windows: windowCount(runs[d].tokens, sequence),
  }));
  const mixture = new Mixture(domains, phase.kind === "train" ? phase.seed : 0, perTurn);
  // A phase goes on where those before it ended, at the beginning of a turn.
  const first = Math.ceil(tokensBefore(phases, index) / sequence / perTurn) * perTurn;
  return {
    async train(step): Promise<Batch> {
      const ids = new Uint32Array(batch * sequence), labels = new Uint32Array(batch * sequence);
      for (let sample = 0; sample < batch; sample++) {
        const { domain, window } = mixture.at(first + (step - 1) * batch + sample);
        const text = await runs[domain].read(window * sequence, (window + 1) * sequence + 1);
        ids.set(text.subarray(0, sequence), sample * sequence);
        labels.set(text.subarray(1), sample * sequence);
      }
      return {
        ids: new Uint8Array(ids.buffer),
        labels: new Uint8Array(labels.buffer),
        validLabels: batch * sequence,
      };
    },
    validation: validationBatches(phase, validation.tokens),
    bytesPerToken: validation.bytes / validation.tokens.length,
  };
}
