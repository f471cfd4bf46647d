/**
 * A run's text: files turned into ids once, then cut into the rounds of each phase.
 *
 * @module
 */
import { byteTokenizer, byteTokenizerFiles } from "../../model/text/byte_tokenizer.ts";
import type { ModelConfig } from "../../model/config.ts";
import { NO_LABEL, sampleWindow, windowAt, windowCount } from "../../model/text/data_order.ts";
import { folderOf } from "../../model/files.ts";
import {
  readDocumentFile,
  splitDocuments,
  splitValidation,
  tokenizeDocuments,
  type TokenizedText,
} from "../../model/text/text.ts";
import { checkVocabulary, loadTokenizer, tokenizerFiles } from "../../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import type { Clock, Runtime, Storage } from "../../mesh/runtime.ts";
import type { Batch } from "../batch.ts";
import { pause } from "../pause.ts";
import type { PhaseData } from "../run/phase.ts";
import { RecipeError } from "../errors.ts";
import type { Recipe } from "./recipe.ts";
import type { ComputePhase, Phase } from "./recipe_phases.ts";
import { number } from "../amounts.ts";

/** Seed of the split into training and validation: the same text is always split in the same way. */
const splitSeed = 0;

/** See the module's description. */
export interface RunText {
  readonly tokenizer: Tokenizer;
  /** The tokenizer's files, for checkpoints. */
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  /** Throws a TokenizerError where the model lacks ids of the tokenizer. */
  check(config: ModelConfig): void;
  /**
   * How often training reads the text. Throws a {@linkcode RecipeError} where that is more often than the recipe allows.
   */
  epochs(recipe: Recipe): { readonly tokens: number; readonly epochs: number };
  /**
   * The rounds of a phase, from 0, of a recipe: it goes on reading where the phases before it ended. Throws a TextError
   * where the text is shorter than one sequence.
   */
  phase(phases: readonly Phase[], index: number): PhaseData;
}

/** Reads the recipe's files. Throws TextError and TokenizerError. */
export async function openFiles(runtime: Runtime, recipe: Recipe): Promise<RunText> {
  const { tokenizer, files } = await openTokenizer(runtime.storage, recipe);
  const { train, validation } = await readTexts(runtime, recipe, tokenizer);
  return {
    tokenizer,
    files,
    check: (config) => checkVocabulary(tokenizer, config),
    epochs: ({ phases, data }) => countEpochs(phases, data.epochs, train.tokens.length),
    phase: (phases, index) =>
      phaseData(phases[index] as ComputePhase, train, validation, tokensBefore(phases, index)),
  };
}

/** The recipe's tokenizer and its files. Throws a TokenizerError. */
export async function openTokenizer(storage: Storage, recipe: Recipe) {
  const path = recipe.data.tokenizer ?? (recipe.model.kind === "folder" ? recipe.model.folder : "bytes");
  if (path === "bytes") return { tokenizer: byteTokenizer(), files: byteTokenizerFiles() };
  const folder = path.endsWith(".json") ? folderOf(path) : path;
  return { tokenizer: await loadTokenizer(storage, path), files: await tokenizerFiles(storage, folder) };
}

async function readTexts(runtime: Runtime, recipe: Recipe, tokenizer: Tokenizer) {
  const read = async (paths: readonly string[]) => {
    const documents: string[] = [];
    for (const path of paths) {
      const text = await readDocumentFile(runtime.storage, path);
      for (const document of splitDocuments(text)) documents.push(document);
      await pause(runtime);
    }
    return documents;
  };
  const { train, validation } = recipe.data;
  const documents = await read(train);
  const split = typeof validation === "number"
    ? splitValidation(documents, validation, splitSeed)
    : { train: documents, validation: await read(validation) };
  return {
    train: await tokenizeInParts(runtime, split.train, tokenizer),
    validation: await tokenizeInParts(runtime, split.validation, tokenizer),
  };
}

/** Characters between two pauses: a tenth of a second with a slow tokenizer. */
const charactersAtOnce = 1 << 17;

/** What `tokenizeDocuments` gives, with pauses in which workers are answered. */
async function tokenizeInParts(
  clock: Clock,
  documents: readonly string[],
  tokenizer: Tokenizer,
): Promise<TokenizedText> {
  const parts: TokenizedText[] = [];
  for (let first = 0; first < documents.length;) {
    let end = first, characters = 0;
    while (end < documents.length && characters < charactersAtOnce) characters += documents[end++].length;
    parts.push(tokenizeDocuments(documents.slice(first, end), tokenizer));
    first = end;
    await pause(clock);
  }
  const tokens = new Uint32Array(parts.reduce((sum, part) => sum + part.tokens.length, 0));
  let at = 0, bytes = 0;
  for (const part of parts) {
    tokens.set(part.tokens, at);
    at += part.tokens.length;
    bytes += part.bytes;
  }
  return { tokens, bytes };
}

/** Tokens that the phases before one read. */
export function tokensBefore(phases: readonly Phase[], index: number): number {
  return phases.slice(0, index).reduce(
    (sum, phase) => sum + (phase.kind === "train" ? phase.steps * phase.batch * phase.sequence : 0),
    0,
  );
}

function countEpochs(phases: readonly Phase[], allowed: number, text: number) {
  const tokens = tokensBefore(phases, phases.length), epochs = tokens / text;
  if (epochs <= allowed) return { tokens, epochs };
  throw new RecipeError(
    `The recipe asks for ${number(tokens)} tokens of training, but the text has ${number(text)}: that ` +
      `is ${number(epochs)} epochs, and [data] epochs allows ${allowed}. Give more text, train on fewer ` +
      `tokens, or set epochs = ${Math.ceil(epochs)} to read the text so often.`,
  );
}

/** The rounds of one phase over tokenized text, of which `before` tokens were read in earlier phases. */
function phaseData(
  phase: ComputePhase,
  train: TokenizedText,
  validation: TokenizedText,
  before = 0,
): PhaseData {
  const { sequence, batch } = phase, seed = phase.kind === "train" ? phase.seed : 0;
  // Samples are counted one by one, so that a phase may begin in the middle of another's step.
  const order = { seed, windows: windowCount(train.tokens.length, sequence), perStep: 1 };
  const first = Math.ceil(before / sequence);
  return {
    train: (step) =>
      toBatch(
        phase,
        train.tokens,
        (sample) => sampleWindow(order, first + (step - 1) * batch + sample, 0).window,
      ),
    validation: validationBatches(phase, validation.tokens),
    bytesPerToken: validation.bytes / validation.tokens.length,
  };
}

/** Windows spread evenly over the whole validation text, the same each time; the last batch may be part empty. */
export function validationBatches(phase: ComputePhase, tokens: Uint32Array): Batch[] {
  if (phase.kind === "train" && phase.evaluate_batches === 0) return [];
  const windows = windowCount(tokens.length, phase.sequence);
  const wanted = phase.kind === "train" ? phase.evaluate_batches : phase.batches || Infinity;
  const count = Math.min(windows, wanted * phase.batch);
  return Array.from({ length: Math.ceil(count / phase.batch) }, (_, b) =>
    toBatch(phase, tokens, (sample) => {
      const i = b * phase.batch + sample;
      return i < count ? Math.floor(i * windows / count) : undefined;
    }));
}

/** Sample 0, 1, ... fill microbatch after microbatch; a sample without a window counts nothing. */
function toBatch(
  { batch, sequence }: ComputePhase,
  tokens: Uint32Array,
  window: (sample: number) => number | undefined,
): Batch {
  const ids = new Uint32Array(batch * sequence), labels = new Uint32Array(batch * sequence).fill(NO_LABEL);
  let validLabels = 0;
  for (let sample = 0; sample < batch; sample++) {
    const at = window(sample);
    if (at === undefined) continue;
    const text = windowAt(tokens, sequence, at);
    ids.set(text.subarray(0, sequence), sample * sequence);
    labels.set(text.subarray(1), sample * sequence);
    validLabels += sequence;
  }
  return { ids: new Uint8Array(ids.buffer), labels: new Uint8Array(labels.buffer), validLabels };
}
