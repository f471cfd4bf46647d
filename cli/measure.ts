/**
 * How good a model is on a text: `volary eval`, and before and after every switch.
 *
 * @module
 */
import type { Device } from "../kernels/mod.ts";
import { LoadedModel } from "../model/layers/local_model.ts";
import type { TensorSource } from "../model/source.ts";
import { readDocumentFile } from "../model/text/text.ts";
import { checkVocabulary } from "../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { files } from "./model_folder.ts";
import type { Screen } from "./screen.ts";
import { type TextLoss, textLoss } from "./text_loss.ts";
import { type Flags, UsageError } from "./verb.ts";

/** Tokens that a model sees at once where --sequence does not say. */
const usualSequence = 512;

/** What to measure on. */
export interface Measure {
  readonly path: string;
  readonly text: string;
  readonly sequence: number | undefined;
}

/** The flags of a verb that measures. */
export const measureFlags = ["text", "sequence", "device"] as const;

/**
 * What --text and --sequence ask for; undefined without --text. `device` says that --device has another use too.
 *
 * @throws {TextError} if the file is no text.
 */
export async function measureOf(flags: Flags, device = false): Promise<Measure | undefined> {
  const path = flags.text("text");
  const sequence = flags.number("sequence", { min: 1, max: 1_000_000, integer: true });
  if (path !== undefined) return { path, text: await readDocumentFile(files, path), sequence };
  for (const flag of device ? ["sequence"] : ["sequence", "device"]) {
    if (flags.text(flag) !== undefined) {
      throw new UsageError(`--${flag} is for measuring: give --text FILE too.`);
    }
  }
  return undefined;
}

/** Loads the model on the device, measures it and lets it go. */
export async function measure(
  device: Device,
  source: TensorSource,
  tokenizer: Tokenizer,
  { text, sequence = usualSequence }: Measure,
  screen: Screen,
): Promise<TextLoss> {
  checkVocabulary(tokenizer, source.config);
  screen.replace("loading");
  const model = await LoadedModel.load(device, source);
  try {
    return await textLoss(
      model,
      tokenizer,
      text,
      Math.min(sequence, source.config.maxPositions),
      (done, all) => screen.replace(`${done} of ${all} tokens`),
    );
  } finally {
    model.release();
  }
}

/** A loss as one JSON object; the keys are part of the program's interface. */
export function lossJson({ tokens, bytes, nll, bitsPerByte, load }: TextLoss) {
  return { tokens, bytes, nll, bits_per_byte: bitsPerByte, ...(load.length > 0 ? { load } : {}) };
}

/** A loss for people. */
export function lossText({ nll, bitsPerByte }: TextLoss): string {
  return `nll ${nll.toFixed(4)} per token, ${bitsPerByte.toFixed(4)} bits per byte`;
}

/** The busiest and the idlest expert of a layer, as multiples of an even share. */
export function spreadOfLoad(rows: readonly number[]): { most: number; least: number } {
  const even = rows.reduce((a, b) => a + b, 0) / rows.length;
  return { most: Math.max(...rows) / even, least: Math.min(...rows) / even };
}
