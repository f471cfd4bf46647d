/**
 * `volary data`: everything that is done to text before a model sees it.
 *
 * @module
 */
import { bpe } from "./data_bpe.ts";
import { prepareHelp, prepareShards } from "./data_prepare.ts";
import { dictionaryTasks } from "./data_tasks.ts";
import { UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "data",
  summary: "prepare text: token shards, a tokenizer, tasks",
  help: `volary data prepare CONFIG.toml [--json]
volary data bpe FILE... --output FOLDER [--entries 4096] [--text-field text] [--json]
volary data tasks cedict|wordnet --output FILE.jsonl [--count N] [--candidates 4] [--seed 1] [--json]

${prepareHelp}

bpe trains a byte-level BPE on text files, .jsonl or .parquet, and writes tokenizer.json and
tokenizer_config.json, which open in Hugging Face's libraries too. FILE may be a folder or a glob.

  --output FOLDER      where tokenizer.json goes
  --entries N          entries in all, bytes and three special tokens included (default: 4096)
  --text-field NAME    field of .jsonl and column of .parquet that holds the text (default: text)
  --most MB            train on no more than this, documents drawn evenly from all (default: 128)

tasks makes tasks for volary eval --tasks: the right translation of a Chinese word (cedict:
CC-CEDICT), or the right gloss of an English one (wordnet: WordNet), among meanings of other words.
All are of words whose entries the demo does not train on, in sets of equal length in which every
meaning is right once: a model that ignores the word is right as often as chance.

  --output FILE        where they go
  --count N            at most so many (default: all words that are held out)
  --candidates N       meanings to choose from (default: 4)
  --seed N             which words, and their order (default: 1)

  --json               one JSON object a line on stdout`,
  examples: [
    "data prepare examples/data.toml",
    "data bpe books/ --output tokenizer --entries 8192",
    "data tasks cedict --output tasks.jsonl --count 200",
  ],

  async run(args) {
    const [what, ...rest] = args;
    switch (what) {
      case "prepare":
        return await prepareShards(rest);
      case "bpe":
        return await bpe(rest);
      case "tasks":
        return await dictionaryTasks(rest);
      default:
        throw new UsageError(
          what === undefined
            ? "Say what to do with data: prepare, bpe or tasks."
            : `There is no "data ${what}"; there are prepare, bpe and tasks.`,
        );
    }
  },
};
