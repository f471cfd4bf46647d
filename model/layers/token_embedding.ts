/**
 * The model's first step: rows of the embedding for tokens, and what their gradients add to it.
 *
 * @module
 */
import { type Device, embedding, embeddingBackward, groupTokens, type View } from "../../kernels/mod.ts";
import { type Parameters, trained } from "../parameters.ts";
import { Scope } from "../scope.ts";

/** Rows of the embedding [T, D] for ids u32 [T], for the caller to release. @throws {RangeError} For an id outside the vocabulary. */
export function embedTokens(device: Device, parameters: Parameters, ids: Uint32Array<ArrayBuffer>): View {
  const { hiddenSize: width, vocabSize } = parameters.config, rows = ids.length;
  const wrong = ids.findIndex((id) => id >= vocabSize);
  if (wrong >= 0) {
    throw new RangeError(`Token id ${ids[wrong]} is outside the model's vocabulary of ${vocabSize}`);
  }
  const uploaded = device.allocate(rows, "token ids");
  device.write(uploaded, ids);
  const x = device.allocate(rows * width, "embedded tokens");
  const table = parameters.block("embedding", -1).weight;
  device.run(embedding, { ids: uploaded, table, y: x }, { rows, width });
  device.release(uploaded);
  return x;
}

/** Adds the gradients dy [T, D] of the rows for `ids` to the embedding's. */
export function embeddingGradient(
  device: Device,
  parameters: Parameters,
  ids: Uint32Array<ArrayBuffer>,
  dy: View,
): void {
  const groups = groupTokens(ids), scope = new Scope(device);
  const upload = (words: Uint32Array<ArrayBuffer>, label: string) => {
    const view = scope.take(words.length, label);
    device.write(view, words);
    return view;
  };
  const views = {
    tokens: upload(groups.tokens, "distinct tokens"),
    starts: upload(groups.starts, "first rows of tokens"),
    order: upload(groups.order, "rows by token"),
    dy,
    dtable: trained(parameters.block("embedding", -1)).gradient,
  };
  const sizes = { unique: groups.tokens.length, width: parameters.config.hiddenSize };
  device.run(embeddingBackward, views, sizes);
  scope.release();
}
