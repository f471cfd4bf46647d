/**
 * The first pass: documents are read, cleaned and checked one by one; those that pass are stored.
 *
 * @module
 */
import { basename } from "@std/path";
import { byteLength } from "../model/text/text.ts";
import type { FileStore } from "../model/files.ts";
import { cleanText, qualityFault } from "./clean.ts";
import type { Domain, PrepareConfig } from "./config.ts";
import type { DocumentWriter } from "./document_store.ts";
import { documentsOf, start } from "./documents.ts";
import type { Cursor, SourceDocument } from "./source_document.ts";
import { canonicalLanguage, languageOf } from "./language.ts";
import { countDropped, excerpt, type PrepareReport, type Step } from "./report.ts";
import { readWordLists, type WordList } from "./word_lists.ts";

/** How far the pass is; all that is needed to go on. */
export interface FilterState {
  finished: boolean;
  /** Where the next document is. */
  domain: number;
  file: number;
  cursor: Cursor;
  /** What is stored. */
  documents: number;
  bytes: number;
  readonly report: PrepareReport;
}

/** What the pass needs. */
export interface FilterOptions {
  readonly files: FileStore;
  readonly config: PrepareConfig;
  /** Files of each domain. */
  readonly inputs: readonly (readonly string[])[];
  readonly writer: DocumentWriter;
  /** Bytes of documents between two checkpoints. */
  readonly checkpointBytes: number;
  /** Called when `state` says what was done and all of it is written. */
  readonly checkpoint: () => Promise<void>;
  readonly pause: (done: number, all: number) => Promise<void>;
}

/** Documents between two pauses: some ten milliseconds. */
const documentsOfPause = 64;

/** Runs the pass from `state` on. */
export async function filterAll(options: FilterOptions, state: FilterState): Promise<void> {
  const { files, config, inputs, writer, checkpoint, pause } = options;
  const lists = await readWordLists(files, config.toxic.lists);
  const all = inputs.reduce((sum, paths) => sum + paths.length, 0);
  const save = async () => {
    await writer.flush();
    [state.documents, state.bytes] = [writer.documents, writer.bytes];
    await checkpoint();
  };
  let sinceSave = 0, sincePause = 0;
  for (; state.domain < inputs.length; state.domain++, state.file = 0) {
    const domain = config.domain[state.domain], paths = inputs[state.domain];
    const judge = judgeOf(config, domain, lists);
    const before = inputs.slice(0, state.domain).reduce((sum, paths) => sum + paths.length, 0);
    for (; state.file < paths.length; state.file++, state.cursor = start) {
      const path = paths[state.file];
      for await (const document of documentsOf(files, path, domain, state.cursor)) {
        const length = await one(document, path, domain.name, state, judge, writer);
        state.cursor = document.next;
        sinceSave += length;
        if (sinceSave >= options.checkpointBytes) {
          await save();
          sinceSave = 0;
        }
        if (++sincePause % documentsOfPause === 0) await pause(before + state.file, all);
      }
    }
  }
  state.finished = true;
  await save();
}

type Judge = (text: string) => { step: Step; reason: string } | undefined;

/** Why a cleaned document does not stay. */
function judgeOf(config: PrepareConfig, domain: Domain, lists: WordList): Judge {
  const wanted = (domain.languages ?? config.languages)?.map(canonicalLanguage);
  return (text) => {
    if (text === "") return { step: "clean", reason: "empty" };
    const fault = qualityFault(text, config.quality);
    if (fault !== undefined) return { step: "quality", reason: fault };
    if (wanted !== undefined) {
      const language = languageOf(text);
      if (!wanted.includes(language)) return { step: "language", reason: language || "not recognised" };
    }
    if (lists.entries > 0 && lists.count(text) > config.toxic.most) {
      return { step: "toxic", reason: "words of the lists" };
    }
    return undefined;
  };
}

/** Stores or counts one document; answers with its bytes as read. */
async function one(
  { text, place }: SourceDocument,
  path: string,
  domain: string,
  { report, domain: number }: FilterState,
  judge: Judge,
  writer: DocumentWriter,
): Promise<number> {
  // In the report a file goes by its name: where it lay is no part of what was done.
  const where = basename(path) + place.slice(path.length);
  report[domain].documents++;
  if (text === undefined) {
    countDropped(report, domain, "broken", "lines that could not be read", 0, () => where);
    return 0;
  }
  const length = byteLength(text);
  report[domain].bytes += length;
  const clean = cleanText(text), verdict = judge(clean);
  if (verdict === undefined) await writer.add(clean, number);
  else countDropped(report, domain, verdict.step, verdict.reason, length, () => `${where}: ${excerpt(text)}`);
  return length;
}
