/**
 * From files to shards: read, clean, check, drop duplicates, split, tokenize, pack. The same input gives the same bytes,
 * also after being killed in the middle: what was done lies in OUTPUT.partial, whose journal says where to go on.
 *
 * Memory is bounded by the number of documents (some 40 bytes each), not by their length.
 *
 * @module
 */
import { byteTokenizer, byteTokenizerFiles } from "../model/text/byte_tokenizer.ts";
import { TokenizerError } from "../model/errors.ts";
import { type FileStore, folderOf, joinPath, readText, withoutSlash, writeAtomic } from "../model/files.ts";
import { loadTokenizer, tokenizerFiles } from "../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { DocumentStore, DocumentWriter } from "./document_store.ts";
import type { PrepareConfig } from "./config.ts";
import { DataError } from "./errors.ts";
import { filterAll, type FilterState } from "./filter.ts";
import { checksum, checksumOfFile, hash64 } from "./hash.ts";
import { limits } from "./limits.ts";
import { packAll, type PackState, widthOf } from "./pack.ts";
import { lossesOf, type PrepareReport } from "./report.ts";
import { fingerprintOf, indexFile, ShardIndex, Shards } from "./shards.ts";
import { findFiles } from "./sources.ts";
import { decideFates } from "./fates.ts";
import { explainingFullDisk } from "./work_files.ts";

/** What is under way; `done` of `all` in units of the stage. */
export interface PrepareProgress {
  readonly stage: "look" | "read" | "compare" | "pack";
  readonly done: number;
  readonly all: number;
}

/** Options of {@linkcode prepare}. */
export interface PrepareOptions {
  readonly files: FileStore;
  /** Hears how far it is. */
  readonly tell?: (progress: PrepareProgress) => void;
  /** Called often, so that a program which does other things too gets its turn. */
  readonly pause?: () => Promise<void>;
  /** Ends the work at the next chance, by throwing the signal's reason; the next call goes on. */
  readonly signal?: AbortSignal;
  /** Input bytes between two points from which a killed preparation goes on. */
  readonly checkpointBytes?: number;
}

/** What {@linkcode prepare} made. */
export interface Prepared {
  readonly folder: string;
  readonly index: ShardIndex;
  readonly report: PrepareReport;
  /** Whether all of it was there before. */
  readonly before: boolean;
}

/** Name of the file beside the shards that says what became of the documents. */
export const reportFile = "report.json";

interface Journal {
  readonly prepared: string;
  filter: FilterState;
  /** There once duplicates are marked and the split is made; what became of each document is in the file `fates`. */
  pack?: PackState;
}

/**
 * Makes a folder of shards (index.json, report.json, the tokenizer's files, NAME.tokens). Does nothing if it is there
 * already, made from the same.
 *
 * @throws {DataError} for anything its user can put right; the message says how.
 */
export async function prepare(config: PrepareConfig, options: PrepareOptions): Promise<Prepared> {
  const { tell = () => {}, signal, checkpointBytes = limits.checkpointBytes } = options;
  const output = withoutSlash(config.output), work = `${output}.partial`;
  const files = explainingFullDisk(options.files, output);
  const rest = async () => {
    signal?.throwIfAborted();
    await options.pause?.();
  };
  const watch = (stage: PrepareProgress["stage"]) => async (done: number, all: number) => {
    tell({ stage, done, all });
    await rest();
  };
  const { tokenizer, companions } = await tokenizerOf(files, config.tokenizer);
  const inputs = await Promise.all(config.domain.map((domain) => findFiles(files, domain.files)));
  const fingerprint = fingerprintOf(companions.get("tokenizer.json")!);
  const prepared = await fingerprintInput(files, config, fingerprint, inputs, watch("look"));

  const there = await alreadyThere(files, output, prepared);
  if (there !== undefined) {
    await removeFolder(files, work);
    return there;
  }
  const journalPath = joinPath(work, "journal.json"), shards = joinPath(work, "shards");
  const journal = await openJournal(files, work, journalPath, prepared, config);
  const save = () => writeAtomic(files, journalPath, new TextEncoder().encode(JSON.stringify(journal)));
  await files.makeFolder(shards);

  if (!journal.filter.finished) {
    const { documents, bytes } = journal.filter;
    await filterAll({
      files,
      config,
      inputs,
      writer: new DocumentWriter(files, work, hash64, { documents, bytes }),
      checkpointBytes,
      checkpoint: save,
      pause: watch("read"),
    }, journal.filter);
  }
  const { report, documents, bytes } = journal.filter;
  refuseNothing(config, report);
  const store = await DocumentStore.open(files, work, documents, bytes);
  const fates = joinPath(work, "fates");
  if (journal.pack === undefined) {
    await decideFates(files, work, config, store, report, watch("compare"));
    await writeAtomic(files, fates, store.fates as Uint8Array<ArrayBuffer>);
    journal.pack = { sides: [], part: 0, done: 0, skip: 0 };
    await save();
  } else store.fates.set(await files.read(fates, 0, documents));

  await packAll({
    files,
    folder: shards,
    store,
    domains: config.domain.map(({ name }) => name),
    tokenizer,
    seed: config.seed,
    shardTokens: config.shard_tokens,
    checkpoint: save,
    pause: watch("pack"),
  }, journal.pack);

  const index = indexOf(config, prepared, fingerprint, tokenizer, journal.pack);
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n");
  for (const [name, content] of companions) await writeAtomic(files, joinPath(shards, name), content);
  await writeAtomic(files, joinPath(shards, reportFile), json(report));
  await writeAtomic(files, joinPath(shards, indexFile), json(index));
  await files.rename(shards, output);
  await removeFolder(files, work);
  return { folder: output, index, report, before: false };
}

async function tokenizerOf(
  files: FileStore,
  path: string,
): Promise<{ tokenizer: Tokenizer; companions: Map<string, Uint8Array<ArrayBuffer>> }> {
  if (path === "bytes") return { tokenizer: byteTokenizer(), companions: byteTokenizerFiles() };
  const tokenizer = await loadTokenizer(files, path);
  const companions = await tokenizerFiles(files, path.endsWith(".json") ? folderOf(path) : path);
  if (path.endsWith(".json")) {
    companions.set("tokenizer.json", await files.read(path, 0, (await files.size(path))!));
  }
  if (tokenizer.vocabSize < 2) throw new TokenizerError(`${path} has no entries.`);
  return { tokenizer, companions };
}

/** A checksum of everything that the shards depend on; paths do not count. */
async function fingerprintInput(
  files: FileStore,
  config: PrepareConfig,
  tokenizer: string,
  inputs: readonly (readonly string[])[],
  watch: (done: number, all: number) => Promise<void>,
): Promise<string> {
  const { output: _, toxic, domain, ...settings } = config;
  const paths = [...inputs.flat(), ...toxic.lists], sums: string[] = [];
  for (const [i, path] of paths.entries()) {
    const size = await files.size(path);
    if (size === undefined) throw new DataError(`There is no file ${path}.`);
    sums.push(`${size} ${await checksumOfFile(files, path, size, () => watch(i, paths.length))}`);
  }
  const domains = domain.map(({ files: _, ...rest }, d) => ({ ...rest, files: inputs[d].length }));
  return checksum(JSON.stringify([1, { ...settings, tokenizer }, domains, toxic.most, sums]));
}

async function alreadyThere(
  files: FileStore,
  output: string,
  prepared: string,
): Promise<Prepared | undefined> {
  let names: string[];
  try {
    names = await files.list(output);
  } catch {
    if (await files.size(output) === undefined) return undefined;
    throw new DataError(`${output} is a file; the prepared data needs a folder of its own.`);
  }
  if (names.length === 0) {
    await files.remove(output);
    return undefined;
  }
  const other = new DataError(
    `${output} holds something else already${
      names.includes(indexFile) ? ": data prepared from other files or with another configuration" : ""
    }. Remove it, or choose another output.`,
  );
  if (!names.includes(indexFile)) throw other;
  const { index } = await Shards.open(files, output);
  if (index.prepared !== prepared) throw other;
  const report = JSON.parse(await readText(files, joinPath(output, reportFile)) ?? "{}") as PrepareReport;
  return { folder: output, index, report, before: true };
}

/** The journal of a preparation of the same input, or a new one in an empty folder. */
async function openJournal(
  files: FileStore,
  work: string,
  path: string,
  prepared: string,
  config: PrepareConfig,
): Promise<Journal> {
  const text = await readText(files, path);
  if (text !== undefined) {
    const journal = JSON.parse(text) as Journal;
    if (journal.prepared === prepared) return journal;
  }
  await removeFolder(files, work);
  await files.makeFolder(work);
  const report: PrepareReport = Object.fromEntries(
    config.domain.map(({ name }) => [name, { documents: 0, bytes: 0, dropped: {} }]),
  );
  return {
    prepared,
    filter: {
      finished: false,
      domain: 0,
      file: 0,
      cursor: { at: 0, line: 1 },
      documents: 0,
      bytes: 0,
      report,
    },
  };
}

async function removeFolder(files: FileStore, folder: string): Promise<void> {
  try {
    await files.list(folder);
  } catch {
    return; // there is none
  }
  await files.remove(folder);
}

/** @throws {DataError} if a domain has no document left, saying what took them. */
function refuseNothing(config: PrepareConfig, report: PrepareReport): void {
  for (const domain of config.domain) {
    const { documents, dropped } = report[domain.name], losses = lossesOf(dropped);
    const gone = losses.reduce((sum, loss) => sum + loss.documents, 0);
    if (gone < documents) continue;
    const took = losses.map(({ title, documents, detail }) =>
      `${title} ${documents}${detail && ` (${detail})`}`
    );
    const languages = domain.languages ?? config.languages;
    throw new DataError(
      documents === 0
        ? `The files of the domain "${domain.name}" hold no document.`
        : `Nothing is left of the domain "${domain.name}". Of its ${documents} documents these were dropped: ${
          took.join("; ")
        }.${languages === undefined ? "" : ` Languages that stay: ${languages.join(", ")}.`}`,
    );
  }
}

function indexOf(
  config: PrepareConfig,
  prepared: string,
  fingerprint: string,
  tokenizer: Tokenizer,
  { sides }: PackState,
): ShardIndex {
  const all = config.domain.reduce((sum, _, d) => sum + sides[2 * d].tokens, 0);
  return ShardIndex.parse({
    format: "volary-shards",
    version: 1,
    prepared,
    tokenizer: { fingerprint, vocab_size: tokenizer.vocabSize },
    dtype: widthOf(tokenizer) === 2 ? "u16" : "u32",
    domains: config.domain.map(({ name, proportion }, d) => ({
      name,
      proportion: proportion ?? sides[2 * d].tokens / all,
      train: sides[2 * d],
      validation: sides[2 * d + 1],
    })),
  });
}
