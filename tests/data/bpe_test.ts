/** The BPE trainer: lossless, the same ids as Hugging Face's library, the merges of a plain implementation. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import { trainBpe, WordCounts } from "../../data/bpe.ts";
import { BpeEncoder, bpeTokenizer } from "../../model/text/bpe_tokenizer.ts";
import { bytesPerToken } from "../../bench/recipe/bpe.ts";
import { chinese, english } from "../../demo/corpus.ts";

const corpora = [await english(), chinese()];

/** A tokenizer trained on the first characters of each language. */
function train(entries: number, characters: number) {
  const words = new WordCounts();
  for (const { train } of corpora) words.add(train.slice(0, characters));
  return trainBpe(words, { entries });
}

function opened(files: ReadonlyMap<string, Uint8Array>) {
  const json = JSON.parse(new TextDecoder().decode(files.get("tokenizer.json")!));
  return { own: bpeTokenizer(json)!, library: new HuggingFace(json, {}) };
}

const trained = train(1_500, 300_000), { own, library } = opened(trained.files);
const strange = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.constantFrom(..."aB1 2\n\r\t'sß中国[]。 👍\u0301\u200d\ud800") }),
  fc.string({ unit: fc.constantFrom("the ", "water", "1984", "中", "  "), maxLength: 80 }),
);

Deno.test("any text comes back, and the library gives the same ids", () => {
  assertEquals(own.vocabSize, 1_500);
  fc.assert(
    fc.property(strange, (text) => {
      const ids = own.encode(text);
      assertEquals(own.decode(ids), text.toWellFormed());
      assertEquals(library.encode(text.toWellFormed(), { add_special_tokens: false }).ids, [...ids]);
    }),
    { numRuns: 400, seed: 1 },
  );
  for (const { validation } of corpora) {
    const ids = own.encode(validation);
    assertEquals(library.encode(validation, { add_special_tokens: false }).ids, [...ids]);
    assertEquals(own.decode(ids), validation);
    const stream = own.stream();
    assertEquals([...ids].map((id) => stream.push(id)).join("") + stream.end(), validation);
  }
  assertEquals(library.token_to_id("<|bos|>"), own.bos);
  assertEquals(library.encode("a").ids, [own.bos!, ...own.encode("a")]);
});

Deno.test("tokens hold several bytes of entries that were held out", () => {
  // A third of the entries and a thirtieth of the text of deno task bench bpe, which finds 3.2 and 2.6.
  const [glosses, dictionary] = corpora.map(({ validation }) => bytesPerToken(own, validation));
  assert(glosses >= 2.3, `${glosses} bytes a token of English`);
  assert(dictionary >= 1.8, `${dictionary} bytes a token of Chinese`);
});

Deno.test("any bytes come back, in short words and in long ones", () => {
  const encoder = new BpeEncoder(trained.merges);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      assertEquals(encoder.decode(encoder.bytes(bytes)), new Uint8Array(bytes));
    }),
    { numRuns: 300, seed: 2 },
  );
  // The way of long words, which is another one, gives what the library gives.
  const long = "waterwater中国".repeat(40) + "aaaaaaa";
  assertEquals([...own.encode(long)], library.encode(long, { add_special_tokens: false }).ids);
});

Deno.test("the merges are those of counting all pairs again after each", () => {
  const words = new WordCounts();
  words.add(
    corpora[0].train.slice(0, 4_000) + corpora[1].train.slice(0, 2_000) + "aaaa aaaaaaa abababab ".repeat(9),
  );
  const { merges } = trainBpe(words, { entries: 259 + 120 });
  const chains = [...words.counts].map(([word, count]) => ({
    ids: [...new TextEncoder().encode(word)],
    count,
  }));
  for (const [left, right, id] of merges) {
    const counts = new Map<number, number>();
    for (const { ids, count } of chains) {
      for (let i = 0; i + 1 < ids.length; i++) {
        const key = ids[i] * 65_536 + ids[i + 1];
        counts.set(key, (counts.get(key) ?? 0) + count);
      }
    }
    const most = Math.max(...counts.values());
    const best = Math.min(...[...counts].filter(([, count]) => count === most).map(([key]) => key));
    assertEquals(left * 65_536 + right, best);
    for (const chain of chains) {
      const next: number[] = [];
      for (let i = 0; i < chain.ids.length; i++) {
        if (chain.ids[i] === left && chain.ids[i + 1] === right) {
          next.push(id);
          i++;
        } else next.push(chain.ids[i]);
      }
      chain.ids = next;
    }
  }
});

Deno.test("little text gives fewer entries; none, or an impossible number, is refused", () => {
  const words = new WordCounts();
  words.add("abc abc");
  const { entries } = trainBpe(words, { entries: 1_000 });
  assert(entries > 259 && entries < 266);
  assertThrows(() => trainBpe(words, { entries: 100 }), Error, "from 259");
  assertThrows(() => trainBpe(new WordCounts(), { entries: 500 }), Error, "no text");
});
