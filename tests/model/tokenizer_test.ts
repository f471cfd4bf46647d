/** Tokenizers: bytes, any tokenizer.json, streaming, and a vocabulary that must fit the model. */
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  byteSpecial,
  byteTokenizer,
  byteTokenizerFiles,
  byteVocabulary,
} from "../../model/text/byte_tokenizer.ts";
import { TokenizerError } from "../../model/errors.ts";
import { checkVocabulary, loadTokenizer, tokenizerFiles } from "../../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { smallConfig } from "./models.ts";

const awkward = "Once upon a time... it's 中文，😀 \u0000\t\r\n\ufeff<|bos|> d'accord\n\n";

function streamed(tokenizer: Tokenizer, ids: Iterable<number>): { text: string; pieces: string[] } {
  const stream = tokenizer.stream();
  const pieces = [...Array.from(ids, (id) => stream.push(id)), stream.end()];
  return { text: pieces.join(""), pieces };
}

/** A small byte-fallback BPE as Llama's, with a few merges. */
function llamaLike(more: Record<string, unknown> = {}): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, "▁", "a", "b", "▁a", "▁ab", "."];
  const special = (id: number) => ({
    id,
    content: tokens[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    version: "1.0",
    added_tokens: [special(0), special(1), special(2)],
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "Prepend", prepend: "▁" }, {
        type: "Replace",
        pattern: { String: " " },
        content: "▁",
      }],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: ["▁ a", "▁a b"],
    },
    ...more,
  };
}

Deno.test("bytes come back as they were, whatever they are", () => {
  const tokenizer = byteTokenizer(), ids = tokenizer.encode(awkward);
  assertEquals(ids, Uint32Array.from(new TextEncoder().encode(awkward)));
  assertEquals(tokenizer.decode([...tokenizer.prefix, ...ids, byteSpecial.eos]), awkward);
  const { text, pieces } = streamed(tokenizer, ids);
  assertEquals(text, awkward);
  assert(pieces.every((piece) => !piece.includes("\ufffd")));
  assertEquals(streamed(tokenizer, [0xe4, 0xb8]).text, "\ufffd", "an incomplete character at the end");
  assertEquals([tokenizer.vocabSize, tokenizer.bos, tokenizer.eos], [byteVocabulary, 256, 257]);
});

Deno.test("the byte-level tokenizer is a tokenizer.json that Hugging Face's library reads alike", async () => {
  const files = new MemoryStorage();
  for (const [name, bytes] of byteTokenizerFiles()) files.files.set(`m/${name}`, bytes);
  const own = byteTokenizer(), parse = (name: string) => JSON.parse(files.string(`m/${name}`));
  const other = new HuggingFace(parse("tokenizer.json"), parse("tokenizer_config.json"));
  const text = awkward.replace("<|bos|>", "").replace("\ufeff", ""); // theirs takes a special token's name for the token
  assertEquals(other.encode(text).ids, [...own.prefix, ...own.encode(text)]);
  assertEquals(other.decode([...own.encode(text)], { clean_up_tokenization_spaces: false }), text);
  assertEquals(other.get_vocab(true).size, byteVocabulary);
  // Read back from the folder it is the fast one again, which takes no text for a special token.
  const loaded = await loadTokenizer(files, "m");
  assertEquals(loaded.encode("<|eos|>").length, 7);
  assertEquals([...(await tokenizerFiles(files, "m")).keys()], ["tokenizer.json", "tokenizer_config.json"]);
});

Deno.test("a tokenizer.json of another model: ids, special tokens, characters in pieces", async () => {
  const files = new MemoryStorage();
  files.text("m/tokenizer.json", JSON.stringify(llamaLike()));
  files.text("m/tokenizer_config.json", JSON.stringify({ bos_token: "<s>", eos_token: { content: "</s>" } }));
  const tokenizer = await loadTokenizer(files, "m");
  assertEquals([tokenizer.vocabSize, tokenizer.bos, tokenizer.eos, tokenizer.prefix], [265, 1, 2, [1]]);
  const ids = tokenizer.encode("ab a 中.");
  assertEquals([...ids], [263, 262, 259, 231, 187, 176, 264]);
  assertEquals(tokenizer.decode([1, ...ids, 2]), "ab a 中.");
  assertEquals(tokenizer.decode([]), "");
  assertEquals(
    [tokenizer.decode([300]), tokenizer.decode([263, 300, 264])],
    ["", "ab."],
    "ids beyond the vocabulary",
  );
  assertEquals(tokenizer.encode(""), new Uint32Array(0));
  assertEquals(streamed(tokenizer, [1, ...ids, 2]), {
    text: "ab a 中.",
    pieces: ["", "ab", " a", " ", "", "", "中", ".", "", ""],
  });
  assertEquals(streamed(tokenizer, [263, 231, 187]).text, "ab\ufffd", "what never becomes a character");
  assertEquals((await loadTokenizer(files, "m/tokenizer.json")).vocabSize, 265);
});

Deno.test("tokenizers that cannot be read say why", async () => {
  const files = new MemoryStorage();
  await assertRejects(() => loadTokenizer(files, "m"), TokenizerError, "There is no m/tokenizer.json");
  files.text("m/tokenizer.json", "{");
  await assertRejects(() => loadTokenizer(files, "m"), TokenizerError, "not readable JSON");
  files.text("m/tokenizer.json", "[]");
  await assertRejects(() => loadTokenizer(files, "m"), TokenizerError, "must be a JSON object");
  files.text("m/tokenizer.json", "{}");
  await assertRejects(() => loadTokenizer(files, "m"), TokenizerError, "cannot be used");
  files.text("m/tokenizer.json", JSON.stringify(llamaLike({ model: { type: "Nonsense" } })));
  await assertRejects(() => loadTokenizer(files, "m"), TokenizerError, "cannot be used");
});

Deno.test("a tokenizer with more entries than the model's embedding is refused", () => {
  checkVocabulary(byteTokenizer(), smallConfig({ vocab_size: 259 }));
  checkVocabulary(byteTokenizer(), smallConfig({ vocab_size: 320 }));
  assertThrows(
    () => checkVocabulary(byteTokenizer(), smallConfig({ vocab_size: 258 })),
    TokenizerError,
    "has 259 entries, but the model's vocabulary (vocab_size) only 258",
  );
});
