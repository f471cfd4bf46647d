/**
 * Files of a preparation that is under way: written at their ends, read at any place.
 *
 * @module
 */
import type { FileReader, FileStore } from "../model/files.ts";
import { DataError } from "./errors.ts";

/** Bytes that gather before they are written. */
const flushBytes = 4 << 20;

/** Writes a file from some position on, in large pieces. What stood there before is overwritten. */
export class Appender {
  readonly #parts: Uint8Array[] = [];
  #waiting = 0;

  /** @param position where the file ends so far, and the first byte written goes */
  constructor(
    readonly files: Pick<FileStore, "write">,
    readonly path: string,
    private position: number,
  ) {}

  /** Bytes of the file, those that wait included. */
  get length(): number {
    return this.position + this.#waiting;
  }

  /** Appends bytes, which must not change any more. */
  async append(bytes: Uint8Array): Promise<void> {
    this.#parts.push(bytes);
    this.#waiting += bytes.length;
    if (this.#waiting >= flushBytes) await this.flush();
  }

  /** Hands everything over to the file system. */
  async flush(): Promise<void> {
    if (this.#waiting === 0) return;
    const all = new Uint8Array(this.#waiting);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    await this.files.write(this.path, this.position, all);
    this.position += all.length;
    this.#parts.length = 0;
    this.#waiting = 0;
  }
}

/** Bytes of a page of {@linkcode PagedFile}, and pages held: 128 MiB in all. */
const pageBytes = 64 << 10, mostPages = 2_048;

/** A file that is read in small pieces all over the place; the pages used last are kept. */
export class PagedFile {
  readonly #pages = new Map<number, Uint8Array>();

  constructor(readonly files: FileReader, readonly path: string, readonly size: number) {}

  /** Bytes `start`..`end`, `end` not included. */
  async read(start: number, end: number): Promise<Uint8Array> {
    const first = Math.floor(start / pageBytes), last = Math.floor(Math.max(start, end - 1) / pageBytes);
    if (first === last) {
      const page = await this.#page(first);
      return page.subarray(start - first * pageBytes, end - first * pageBytes);
    }
    if (last - first > 8) return await this.files.read(this.path, start, end);
    const bytes = new Uint8Array(end - start);
    for (let p = first; p <= last; p++) {
      const page = await this.#page(p), at = p * pageBytes;
      bytes.set(page.subarray(Math.max(0, start - at), end - at), Math.max(0, at - start));
    }
    return bytes;
  }

  async #page(number: number): Promise<Uint8Array> {
    const held = this.#pages.get(number);
    if (held !== undefined) {
      this.#pages.delete(number); // moves to the end: used last
      this.#pages.set(number, held);
      return held;
    }
    const at = number * pageBytes;
    const page = await this.files.read(this.path, at, Math.min(this.size, at + pageBytes));
    if (this.#pages.size >= mostPages) this.#pages.delete(this.#pages.keys().next().value!);
    this.#pages.set(number, page);
    return page;
  }
}

/** The file store with errors that say what to do when the disk is full. */
export function explainingFullDisk(files: FileStore, folder: string): FileStore {
  let written = 0;
  const said = async <T>(path: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      if (!isFull(error)) throw error;
      throw new DataError(
        `The disk is full: ${path} could not be written, after ${(written / 1e6).toFixed(1)} MB of this ` +
          `run. A preparation needs about as much room beside ${folder} as its text, and 0.5 kB for ` +
          "each document, until it is done. Free some and give the same command again: it goes on from " +
          "where it was.",
      );
    }
  };
  return {
    read: (path, start, end) => files.read(path, start, end),
    size: (path) => files.size(path),
    list: (path) => files.list(path),
    remove: (path) => files.remove(path),
    async write(path, position, bytes) {
      await said(path, files.write(path, position, bytes));
      written += bytes.length;
    },
    sync: (path) => said(path, files.sync(path)),
    rename: (from, to) => said(to, files.rename(from, to)),
    makeFolder: (path) => said(path, files.makeFolder(path)),
  };
}

/** No space left on the device, or none within the user's quota. */
function isFull(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === "ENOSPC" || code === "EDQUOT" ||
    (error instanceof Error && /os error (28|122)\)/.test(error.message));
}
