/**
 * `volary data prepare`: from files to token shards.
 *
 * @module
 */
import { dirname, resolve } from "@std/path";
import { table } from "../coordinator/amounts.ts";
import { parseConfig } from "../data/config.ts";
import { prepare, type PrepareProgress, reportFile } from "../data/prepare.ts";
import { reportRows } from "../data/report.ts";
import { files } from "./model_folder.ts";
import { onInterrupt } from "./interrupt.ts";
import { Screen } from "./screen.ts";
import { readTextFile } from "./text_file.ts";
import { CommandError, printJson, readFlags } from "./verb.ts";

/** The verb's part of the help. */
export const prepareHelp =
  `prepare reads text, .jsonl and .parquet files, cleans them, keeps the languages and the quality that
CONFIG.toml asks for, drops exact and near duplicates, sets documents aside for validation (and what
is like them), and packs the rest into token shards, for [data] shards = "FOLDER" in a recipe. The
same input gives the same bytes. Killed in the middle, the same command goes on from where it was.
CONFIG.toml, with defaults (paths are relative to it):

  output = "prepared"            the folder that is made: index.json, report.json, *.tokens, tokenizer.json
  tokenizer = "bytes"            or the path of a tokenizer.json
  languages = ["en", "zh"]       keep only these (ISO 639-1); without it, all
  validation = 0.01              share of the documents kept for validation
  seed = 1                       of the split and the order of documents
  shard_tokens = 16777216        tokens of a shard, at most
  [[domain]]                     once for each kind of text
    name = "books"
    files = ["books", "*.jsonl"] files, folders, globs
    text = "text"                field of .jsonl, column of .parquet
    documents = "file"           how a text file is cut: "file", "paragraph" (blank lines) or "line"
    broken = "stop"              a broken line of .jsonl: name it and "stop", or "drop" it
    proportion = 0.5             share of what training sees; for every domain or for none (then by size)
    languages = ["en"]           instead of those above
  [quality]                      shortest 20, longest 16777216 (characters); letters 0.5 at least, digits 0.3,
                                 replaced 0.001, repeated_lines 0.3, repeated_piece 0.2 at most (shares);
                                 shortest_words 2, longest_words 15
  [toxic]                        lists = ["words.txt"], most = 0 (different entries that a document may hold)
  [deduplicate]                  exact = true, near = 0.75 (Jaccard similarity of pieces of five characters, or false)`;

const titles: Record<PrepareProgress["stage"], string> = {
  look: "looking at files",
  read: "reading and checking files",
  compare: "looking for duplicates",
  pack: "packing documents",
};

/** Runs `data prepare`. */
export async function prepareShards(args: readonly string[]): Promise<number> {
  const flags = readFlags(args, { boolean: ["json"], positional: ["CONFIG.toml"] });
  const [path] = flags.positional, base = dirname(resolve(path));
  const config = parseConfig(await readTextFile(path, "configuration"), (path) => resolve(base, path));
  const screen = new Screen(), stop = new AbortController();
  const interrupt = () => stop.abort(new CommandError("Stopped. The same command goes on from here."));
  const stopListening = onInterrupt(interrupt);
  let shown = 0;
  try {
    const { folder, index, report, before } = await prepare(config, {
      files,
      signal: stop.signal,
      tell({ stage, done, all }) {
        const now = performance.now();
        if (now - shown < 200) return;
        shown = now;
        screen.replace(`${titles[stage]}: ${Math.floor(100 * done / Math.max(1, all))} %`);
      },
      // Signals arrive only while the event loop runs.
      pause: () => new Promise((resolve) => setTimeout(resolve, 0)),
    });
    if (flags.has("json")) printJson({ event: "prepared", folder, before, index, report });
    if (before) {
      screen.say(`${folder} is there already, made from the same files with the same configuration.`);
    }
    screen.say(table([["", "documents", "", "text"], ...reportRows(report)]).join("\n"));
    screen.say("");
    screen.say(
      table([
        ["domain", "proportion", "training tokens", "validation tokens", "bytes a token"],
        ...index.domains.map(({ name, proportion, train, validation }) => [
          name,
          proportion.toFixed(3),
          train.tokens.toLocaleString("en-US"),
          validation.tokens.toLocaleString("en-US"),
          (train.bytes / train.tokens).toFixed(2),
        ]),
      ]).join("\n"),
    );
    screen.say(`\n${folder} (samples of what was dropped: ${reportFile})`);
    return 0;
  } finally {
    stopListening();
    screen.end();
  }
}
