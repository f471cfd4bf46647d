/**
 * The loss of a model on one text.
 *
 * @module
 */
import type { LoadedModel } from "../model/layers/local_model.ts";
import { bitsPerByte, byteLength } from "../model/text/text.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { TextError } from "../model/errors.ts";

/** What a text costs. */
export interface TextLoss {
  /** Tokens that were predicted, and bytes of the text. */
  readonly tokens: number;
  readonly bytes: number;
  /** Mean negative log-likelihood of a token, nats. */
  readonly nll: number;
  readonly bitsPerByte: number;
  /** Rows that each expert got, by layer; empty for a dense model. */
  readonly load: readonly (readonly number[])[];
}

/** Tokens of a pass over the model: enough to be quick, little enough for the logits' memory. */
const tokensOfPass = 2048;
/** A label that does not count. */
const IGNORED = 0xffff_ffff;

/**
 * Cuts the text into windows of `sequence` tokens (each token is predicted once, from what stands before it in its window)
 * and adds up their losses. `progress` hears of tokens done and in all.
 */
export async function textLoss(
  model: LoadedModel,
  tokenizer: Tokenizer,
  text: string,
  sequence: number,
  progress: (done: number, all: number) => void = () => {},
): Promise<TextLoss> {
  const tokens = Uint32Array.from([...tokenizer.prefix, ...tokenizer.encode(text)]);
  const predicted = tokens.length - 1, { experts, layers } = model.config;
  if (predicted < 1) throw new TextError("The text has fewer than two tokens: nothing can be predicted.");
  const length = Math.min(sequence, predicted);
  const windows = Math.ceil(predicted / length), batch = Math.max(1, Math.floor(tokensOfPass / length));
  const load = Array.from({ length: experts > 0 ? layers : 0 }, () => Array<number>(experts).fill(0));
  let nats = 0;
  for (let first = 0; first < windows; first += batch) {
    const count = Math.min(batch, windows - first);
    const ids = new Uint32Array(count * length), labels = new Uint32Array(count * length).fill(IGNORED);
    for (let w = 0; w < count; w++) {
      const start = (first + w) * length, end = Math.min(start + length, predicted);
      ids.set(tokens.subarray(start, end), w * length);
      labels.set(tokens.subarray(start + 1, end + 1), w * length);
    }
    const loss = await model.loss({ ids, batch: count, sequence: length }, labels);
    nats += loss.sum;
    loss.load.forEach((rows, l) => rows.forEach((n, e) => load[l][e] += n));
    progress(Math.min(predicted, (first + count) * length), predicted);
  }
  const bytes = byteLength(text);
  return { tokens: predicted, bytes, nll: nats / predicted, bitsPerByte: bitsPerByte(nats, bytes), load };
}
