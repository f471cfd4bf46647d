/**
 * `volary data`: everything that is done to text before a model sees it.
 *
 * @module
 */
import { bpe } from "./data_bpe.ts";
import { prepareHelp, prepareShards } from "./data_prepare.ts";
import { UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "data",
  summary: "prepare text: token shards, a tokenizer, tasks",
  help: `volary data prepare CONFIG.toml [--json]
volary data bpe FILE... --output FOLDER [--entries 4096] [--text-field text] [--json]

${prepareHelp}

bpe trains a byte-level BPE on text files, .jsonl or .parquet, and writes tokenizer.json and tokenizer_config.json, which open
in Hugging Face's libraries too. FILE may be a folder or a glob.

  --output FOLDER      where tokenizer.json goes
  --entries N          entries in all, bytes and three special tokens included (default: 4096)
  --text-field NAME    field of .jsonl and column of .parquet that holds the text (default: text)
  --most MB            train on no more than this, documents drawn evenly from all (default: 128)

  --json               one JSON object a line on stdout`,

  async run(args) {
    const [what, ...rest] = args;
    switch (what) {
      case "prepare":
        return await prepareShards(rest);
      case "bpe":
        return await bpe(rest);
      default:
        throw new UsageError(
          what === undefined
            ? "Say what to do with data: prepare or bpe."
            : `There is no "data ${what}"; there are prepare and bpe.`,
        );
    }
  },
};
