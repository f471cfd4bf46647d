/**
 * `volary data bpe`: trains a tokenizer.
 *
 * @module
 */
import { join } from "@std/path";
import { fixedEntries, mostEntries, trainBpe, WordCounts } from "../data/bpe.ts";
import { documentsOf } from "../data/documents.ts";
import { findFiles } from "../data/sources.ts";
import { writeAtomic } from "../model/files.ts";
import { randomStream } from "../model/random.ts";
import { byteLength } from "../model/text/text.ts";
import { files } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import { printJson, readFlags, UsageError } from "./verb.ts";

/** Text that is enough for any vocabulary here, and takes a gigabyte of memory at most, in MB. */
const usualMost = 128;

/** Runs `data bpe`. */
export async function bpe(args: readonly string[]): Promise<number> {
  const flags = readFlags(args, {
    boolean: ["json"],
    string: ["output", "entries", "text-field", "most"],
    positional: ["FILE..."],
  });
  const output = flags.text("output");
  if (output === undefined) throw new UsageError("--output FOLDER is missing.");
  const entries = flags.number("entries", { min: fixedEntries, max: mostEntries, integer: true }) ?? 4_096;
  const most = (flags.number("most", { min: 0.001 }) ?? usualMost) * 1e6;
  const screen = new Screen();
  try {
    const paths = await findFiles(files, flags.positional);
    const sizes = await Promise.all(paths.map(async (path) => await files.size(path) ?? 0));
    const share = most / sizes.reduce((a, b) => a + b, 0), chance = randomStream(1, "bpe");
    const words = new WordCounts();
    let bytes = 0, documents = 0;
    for (const path of paths) {
      const options = {
        text: flags.text("text-field") ?? "text",
        documents: "line" as const,
        broken: "stop" as const,
      };
      for await (const { text } of documentsOf(files, path, options)) {
        if (text === undefined || (share < 1 && chance.uniform() >= share)) continue;
        const line = text.replace(/\r$/, "") + "\n";
        words.add(line);
        bytes += byteLength(line);
        if (++documents % 4096 === 0) screen.replace(`counting words: ${(bytes / 1e6).toFixed(1)} MB`);
      }
    }
    const trained = trainBpe(words, {
      entries,
      tell: (done, all) => screen.replace(`merge ${done} of ${all}`),
    });
    await files.makeFolder(output);
    for (const [name, content] of trained.files) await writeAtomic(files, join(output, name), content);
    const made = { entries: trained.entries, bytes, words: words.counts.size };
    if (flags.has("json")) printJson({ event: "tokenizer", folder: output, ...made });
    screen.say(
      `${join(output, "tokenizer.json")}: ${made.entries} entries, from ${
        (bytes / 1e6).toFixed(1)
      } MB of text ` +
        `(${made.words} different words)${
          made.entries < entries
            ? `; no pair is there twice any more, so there are fewer than ${entries}`
            : ""
        }.`,
    );
    return 0;
  } finally {
    screen.end();
  }
}
