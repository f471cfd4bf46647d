/**
 * The documents that passed the filters: their text in one file, one record each in another. In memory each takes some
 * tens of bytes, whatever its length.
 *
 * @module
 */
import type { FileReader, FileStore } from "../model/files.ts";
import { joinPath } from "../model/files.ts";
import { DataError } from "./errors.ts";
import { limits } from "./limits.ts";
import { Appender, PagedFile } from "./work_files.ts";

/** Of a document: where its text begins (f64), its bytes (u32), two words of its hash (u32), its domain (u32). */
const recordBytes = 24;
const names = { text: "documents.text", records: "documents.records" };

/** Appends documents; `documents` and `bytes` say where a killed preparation goes on. */
export class DocumentWriter {
  readonly #text: Appender;
  readonly #records: Appender;
  readonly #encoder = new TextEncoder();

  constructor(files: FileStore, folder: string, readonly hash: (bytes: Uint8Array) => bigint, from = {
    documents: 0,
    bytes: 0,
  }) {
    this.#text = new Appender(files, joinPath(folder, names.text), from.bytes);
    this.#records = new Appender(files, joinPath(folder, names.records), from.documents * recordBytes);
  }

  get documents(): number {
    return this.#records.length / recordBytes;
  }

  get bytes(): number {
    return this.#text.length;
  }

  /** Adds a document. @throws {DataError} beyond the largest number of documents. */
  async add(text: string, domain: number): Promise<void> {
    if (this.documents >= limits.documents) {
      throw new DataError(
        `There are more than ${limits.documents} documents, more than one preparation takes. Prepare parts of the files ` +
          `one by one.`,
      );
    }
    const bytes = this.#encoder.encode(text), record = new DataView(new ArrayBuffer(recordBytes));
    record.setFloat64(0, this.bytes, true);
    record.setUint32(8, bytes.length, true);
    // White space does not make two documents different.
    record.setBigUint64(12, this.hash(this.#encoder.encode(text.replace(/\s+/g, " "))), true);
    record.setUint32(20, domain, true);
    await this.#text.append(bytes);
    await this.#records.append(new Uint8Array(record.buffer));
  }

  async flush(): Promise<void> {
    await this.#text.flush();
    await this.#records.flush();
  }
}

/** Why a document is not in the shards; 0 and `validation` are. */
export const fate = { train: 0, validation: 1, exact: 2, near: 3, leak: 4 } as const;

/** What became of the documents, and their texts. */
export class DocumentStore {
  readonly #text: PagedFile;

  private constructor(
    readonly files: FileReader,
    folder: string,
    readonly count: number,
    bytes: number,
    readonly starts: Float64Array,
    readonly lengths: Uint32Array,
    readonly domains: Uint16Array,
    readonly hashes: Uint32Array,
    /** One of `fate` for each document. */
    readonly fates: Uint8Array,
  ) {
    this.#text = new PagedFile(files, joinPath(folder, names.text), bytes);
  }

  /** Reads the records of `count` documents, whose texts have `bytes` in all. */
  static async open(files: FileReader, folder: string, count: number, bytes: number): Promise<DocumentStore> {
    const starts = new Float64Array(count), lengths = new Uint32Array(count);
    const domains = new Uint16Array(count), hashes = new Uint32Array(2 * count);
    const atOnce = 1 << 16;
    for (let first = 0; first < count; first += atOnce) {
      const last = Math.min(count, first + atOnce);
      const view = new DataView(
        (await files.read(joinPath(folder, names.records), first * recordBytes, last * recordBytes)).buffer,
      );
      for (let i = first, at = 0; i < last; i++, at += recordBytes) {
        starts[i] = view.getFloat64(at, true);
        lengths[i] = view.getUint32(at + 8, true);
        hashes[2 * i] = view.getUint32(at + 12, true);
        hashes[2 * i + 1] = view.getUint32(at + 16, true);
        domains[i] = view.getUint32(at + 20, true);
      }
    }
    return new DocumentStore(
      files,
      folder,
      count,
      bytes,
      starts,
      lengths,
      domains,
      hashes,
      new Uint8Array(count),
    );
  }

  /** The text of a document. */
  async text(document: number): Promise<string> {
    const start = this.starts[document];
    return new TextDecoder("utf-8", { ignoreBOM: true })
      .decode(await this.#text.read(start, start + this.lengths[document]));
  }

  /** Whether a document is still in, for training or validation. */
  kept(document: number): boolean {
    return this.fates[document] <= fate.validation;
  }
}
