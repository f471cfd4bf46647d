/**
 * The byte-level tokenizer: ids 0 to 255 are the bytes of UTF-8, then beginning (256), end (257) and padding (258).
 * It is saved as a tokenizer.json that Hugging Face's libraries read too (byte-level BPE without merges).
 *
 * @module
 */
import type { Tokenizer } from "./tokenizer.ts";

/** Ids beyond the bytes. */
export const byteSpecial = { bos: 256, eos: 257, pad: 258 } as const;
/** Ids of the byte-level tokenizer: 256 bytes and three special tokens. */
export const byteVocabulary = 259;

const names = { bos: "<|bos|>", eos: "<|eos|>", pad: "<|pad|>" } as const;

/** Text as its bytes. */
export function byteTokenizer(): Tokenizer {
  const encoder = new TextEncoder();
  const bytesOf = (ids: ArrayLike<number>) => Uint8Array.from(Array.from(ids).filter((id) => id < 256));
  return {
    vocabSize: byteVocabulary,
    encode: (text) => Uint32Array.from(encoder.encode(text)),
    ...decoding(bytesOf),
    bos: byteSpecial.bos,
    eos: byteSpecial.eos,
    prefix: [byteSpecial.bos],
  };
}

/** How ids that stand for bytes become text, at once or one by one; `bytesOf` leaves special tokens out. */
export function decoding(
  bytesOf: (ids: ArrayLike<number>) => Uint8Array<ArrayBuffer>,
): Pick<Tokenizer, "decode" | "stream"> {
  return {
    decode: (ids) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytesOf(ids)),
    stream() {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      return {
        push: (id) => decoder.decode(bytesOf([id]), { stream: true }),
        end: () => decoder.decode(),
      };
    },
  };
}

/** A byte-level BPE: what stands beside the 256 bytes. */
export interface ByteLevelBpe {
  /** Pairs of tokens (in the letters of {@linkcode visibleBytes}) that become one, in order of rank; ids from 256 on. */
  readonly merges: readonly (readonly [string, string])[];
  /** How a text is cut into words before; without it, not at all. */
  readonly preTokenizers?: readonly Record<string, unknown>[];
}

/** tokenizer.json and tokenizer_config.json of the byte-level tokenizer. */
export function byteTokenizerFiles(): Map<string, Uint8Array<ArrayBuffer>> {
  return byteLevelFiles({ merges: [] });
}

/** tokenizer.json and tokenizer_config.json of a byte-level BPE; beginning, end and padding have the last ids. */
export function byteLevelFiles(bpe: ByteLevelBpe): Map<string, Uint8Array<ArrayBuffer>> {
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: names.bos,
    eos_token: names.eos,
    pad_token: names.pad,
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
  };
  const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 1) + "\n");
  return new Map([["tokenizer.json", bytes(tokenizerJson(bpe))], ["tokenizer_config.json", bytes(config)]]);
}

/** True for a parsed tokenizer.json that says what ours says. */
export function isByteTokenizer(json: unknown): boolean {
  return isByteLevel(json, { merges: [] });
}

/** True for a parsed tokenizer.json that is {@linkcode byteLevelFiles}'s for this BPE. */
export function isByteLevel(json: unknown, bpe: ByteLevelBpe): boolean {
  return JSON.stringify(json) === JSON.stringify(tokenizerJson(bpe));
}

function tokenizerJson({ merges, preTokenizers = [] }: ByteLevelBpe) {
  const vocab = [...new Set([...visibleBytes(), ...merges.map(([left, right]) => left + right)])];
  const added = (["bos", "eos", "pad"] as const).map((key, i) => ({
    id: vocab.length + i,
    content: names[key],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const start = { SpecialToken: { id: names.bos, type_id: 0 } };
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: preTokenizers.length === 0
      ? bytes
      : { type: "Sequence", pretokenizers: [...preTokenizers, bytes] },
    post_processor: {
      type: "TemplateProcessing",
      single: [start, text("A", 0)],
      pair: [start, text("A", 0), text("B", 1)],
      special_tokens: { [names.bos]: { id: names.bos, ids: [vocab.length], tokens: [names.bos] } },
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
      merges: merges.map((pair) => pair.join(" ")),
    },
  };
}

/**
 * The character that stands for each byte in byte-level BPE: printable ones for themselves, the others from U+0100 on
 * (the convention of GPT-2's encoder).
 */
export function visibleBytes(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}
