/**
 * How long does the byte-level BPE trainer take for the demo's text (WordNet and CC-CEDICT), and how many bytes do its tokens
 * hold on entries that it has not seen? Wanted, at 4,096 entries: 120 s for 20 MB; 2.5 bytes a token of English, 2 of
 * Chinese. Of Chinese entries also the Chinese words alone: the rest of them is pinyin and English.
 *
 * @module
 */
import { table } from "../../coordinator/amounts.ts";
import { trainBpe, WordCounts } from "../../data/bpe.ts";
import { chinese, english } from "../../demo/corpus.ts";
import { bpeTokenizer } from "../../model/text/bpe_tokenizer.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";

/** One line for the list of benches. */
export const title = "the BPE trainer: seconds for 20 MB, bytes a token on held-out text";

/** Entries of a tokenizer, and what has to come out at so many. */
const ENTRIES = 4_096;
const LEAST = { English: 2.5, Chinese: 2 }, MOST_SECONDS = 120, MEGABYTES = 20;

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

/** Bytes of a text for each of its tokens. */
export function bytesPerToken(tokenizer: { encode(text: string): ArrayLike<number> }, text: string): number {
  return bytesOf(text) / tokenizer.encode(text).length;
}

/** Flags besides --json. */
export const flags: BenchFlags = { numbers: { entries: ENTRIES } };

/** Runs the bench; false where a goal is missed. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  const { entries } = flags.numbers({ entries: ENTRIES });
  const corpora = [await english(), chinese()];
  const megabytes = corpora.reduce((sum, { train }) => sum + bytesOf(train), 0) / 1e6;
  const began = performance.now(), words = new WordCounts();
  for (const { train } of corpora) words.add(train);
  const trained = trainBpe(words, { entries });
  const seconds = (performance.now() - began) / 1000, scaled = seconds * MEGABYTES / megabytes;
  const tokenizer = bpeTokenizer(JSON.parse(new TextDecoder().decode(trained.files.get("tokenizer.json")!)))!;
  const found = corpora.map(({ language, validation }) => ({
    language,
    held: bytesPerToken(tokenizer, validation),
    least: entries === ENTRIES ? LEAST[language] : 0,
  }));
  const han = corpora[1].validation.split("\n").map((line) => line.split(" ")[0]).filter((word) =>
    word !== ""
  );
  const chineseWords = bytesOf(han.join("")) /
    han.reduce((sum, word) => sum + tokenizer.encode(word).length, 0);
  record({ entries: trained.entries, megabytes, seconds, scaled, found, chineseWords });
  print(
    `${trained.entries} entries from ${megabytes.toFixed(1)} MB in ${seconds.toFixed(1)} s: ${
      scaled.toFixed(1)
    } s for ${MEGABYTES} MB (at most ${MOST_SECONDS})`,
    ...table([
      ...found.map(({ language, held, least }) => [
        `held-out ${language}`,
        `${held.toFixed(2)} bytes a token`,
        least > 0 ? `(at least ${least.toFixed(1)})` : "",
      ]),
      ["Chinese words alone", `${chineseWords.toFixed(2)} bytes a token`],
    ]),
  );
  return scaled <= MOST_SECONDS && found.every(({ held, least }) => held >= least);
}
