/**
 * Tokenizers of model folders: any Hugging Face tokenizer.json, and a byte-level tokenizer of our own that is one too.
 *
 * @module
 */
import type { TextStream, Tokenizer } from "./tokenizer.ts";
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import { bpeTokenizer } from "./bpe_tokenizer.ts";
import { byteTokenizer, isByteTokenizer } from "./byte_tokenizer.ts";
import type { ModelConfig } from "../config.ts";
import { ModelError, TokenizerError } from "../errors.ts";
import { type FileReader, folderOf, joinPath, readText } from "../files.ts";

/** The files of a tokenizer that belong into a model's folder. */
const companions = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "generation_config.json",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
];

/**
 * Reads a model folder's tokenizer, or the one at `path` if that is a .json file (with tokenizer_config.json beside it,
 * if there).
 *
 * @throws {TokenizerError} if there is none or it cannot be read.
 */
export async function loadTokenizer(files: FileReader, path: string): Promise<Tokenizer> {
  const file = path.endsWith(".json") ? path : joinPath(path, "tokenizer.json");
  const json = await readObject(files, file);
  if (json === undefined) {
    throw new TokenizerError(
      `There is no ${file}. A model's folder needs its tokenizer.json; tokenizer.model alone is not read.`,
    );
  }
  if (isByteTokenizer(json)) return byteTokenizer();
  const own = bpeTokenizer(json);
  if (own !== undefined) return own;
  const config = await readObject(files, joinPath(folderOf(file), "tokenizer_config.json"));
  try {
    return huggingFace(json, config ?? {});
  } catch (error) {
    if (error instanceof ModelError) throw error;
    throw new TokenizerError(`${file} cannot be used: ${error instanceof Error ? error.message : error}.`);
  }
}

/** The tokenizer's files in a model's folder, as they are, to be put into another. */
export async function tokenizerFiles(
  files: FileReader,
  folder: string,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const found = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of companions) {
    const path = joinPath(folder, name), size = await files.size(path);
    if (size !== undefined) found.set(name, await files.read(path, 0, size));
  }
  return found;
}

/** @throws {TokenizerError} if the tokenizer has ids that the model's embedding does not have. */
export function checkVocabulary(tokenizer: Tokenizer, config: ModelConfig): void {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new TokenizerError(
      `The tokenizer has ${tokenizer.vocabSize} entries, but the model's vocabulary (vocab_size) only ` +
        `${config.vocabSize}: some texts would have no embedding. Use the model's own tokenizer, or a vocab_size of at ` +
        `least ${tokenizer.vocabSize}.`,
    );
  }
}

async function readObject(files: FileReader, path: string): Promise<Record<string, unknown> | undefined> {
  let json: unknown;
  try {
    const text = await readText(files, path);
    if (text === undefined) return undefined;
    json = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError) {
      throw new TokenizerError(`${path} is not readable JSON: ${error.message}.`);
    }
    throw error;
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new TokenizerError(`${path} must be a JSON object.`);
  }
  return json as Record<string, unknown>;
}

/** Wraps the library: plain ids, no clean-up of spaces unless the configuration asks for it, streaming. */
function huggingFace(json: Record<string, unknown>, config: Record<string, unknown>): Tokenizer {
  const inner = new HuggingFace({ added_tokens: [], ...json }, config);
  let vocabSize = 0;
  for (const id of inner.get_vocab(true).values()) vocabSize = Math.max(vocabSize, id + 1);
  const options = {
    skip_special_tokens: true,
    // The library's own default (true) would remove spaces before punctuation.
    clean_up_tokenization_spaces: config.clean_up_tokenization_spaces === true,
  };
  const encode = (text: string, special: boolean): Uint32Array<ArrayBuffer> => {
    const { ids } = inner.encode(text, { add_special_tokens: special });
    // The library answers undefined for characters outside a vocabulary without an unknown token.
    if (ids.some((id) => id === undefined || id === null)) {
      throw new TokenizerError(
        "The text has characters that this tokenizer has no token for, and no unknown token.",
      );
    }
    return Uint32Array.from(ids);
  };
  const decode = (ids: ArrayLike<number>) => {
    // Embeddings are often padded beyond the vocabulary; an id without a token has no text.
    const known = Array.from(ids).filter((id) => inner.id_to_token(id) !== undefined);
    return known.length === 0 ? "" : inner.decode(known, options);
  };
  const named = (key: string): number | undefined => {
    const value = config[key] as string | { content?: unknown } | undefined | null;
    const token = typeof value === "object" ? value?.content : value;
    return typeof token === "string" ? inner.token_to_id(token) : undefined;
  };
  const bos = named("bos_token"), eos = named("eos_token");
  const { unk_token: unkToken, unk_id: unkId } = (json.model ?? {}) as {
    unk_token?: unknown;
    unk_id?: unknown;
  };
  const unknown = typeof unkToken === "string"
    ? inner.token_to_id(unkToken)
    : typeof unkId === "number"
    ? unkId
    : undefined;
  return {
    vocabSize,
    encode: (text) => encode(text, false),
    decode,
    stream: () => windowStream(decode),
    prefix: prefixOf(encode("a", true), encode("a", false)),
    ...(bos === undefined ? {} : { bos }),
    ...(eos === undefined ? {} : { eos }),
    ...(unknown === undefined ? {} : { unknown }),
  };
}

/** What the tokenizer's template puts before a text. */
function prefixOf(special: Uint32Array, plain: Uint32Array): number[] {
  for (let at = 0; at + plain.length <= special.length; at++) {
    if (plain.every((id, i) => special[at + i] === id)) return [...special.slice(0, at)];
  }
  return [];
}

/** Ids held back at most: no character has more than four bytes; beyond that the bytes are no text. */
const longestHold = 8;

/**
 * Streaming over a decoder that only knows whole texts: decodes a short window twice, with and without what is new, and
 * gives out the difference once it does not end within a character.
 */
function windowStream(decode: (ids: number[]) => string): TextStream {
  let window: number[] = [], shown = 0;
  const take = (force: boolean): string => {
    const before = decode(window.slice(0, shown)), now = decode(window);
    if (!force && now.endsWith("\ufffd") && window.length - shown < longestHold) return "";
    // What was shown stays as context for the next piece: decoders treat the first token of a text differently.
    window = window.slice(shown);
    shown = window.length;
    return now.startsWith(before) ? now.slice(before.length) : now;
  };
  return {
    push(id) {
      window.push(id);
      return take(false);
    },
    end: () => take(true),
  };
}
