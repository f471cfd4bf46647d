/**
 * Documents of one file, one after another, from any point where a reading was left.
 *
 * @module
 */
import type { Cursor, SourceDocument } from "./source_document.ts";
import type { FileReader } from "../model/files.ts";
import { SourceError } from "./errors.ts";
import { limits } from "./limits.ts";
import { parquetDocuments } from "./parquet.ts";
import { kindOf } from "./sources.ts";

/** How a file is read; see `Domain`. */
export interface ReadOptions {
  readonly text: string;
  readonly documents: "file" | "paragraph" | "line";
  readonly broken: "stop" | "drop";
}

/** Where every file begins. */
export const start: Cursor = { at: 0, line: 1 };

/** Reads a file's documents in order. @throws {SourceError} naming the place of what is wrong. */
export function documentsOf(
  files: FileReader,
  path: string,
  options: ReadOptions,
  from: Cursor = start,
): AsyncGenerator<SourceDocument> {
  switch (kindOf(path)) {
    case "jsonl":
      return jsonDocuments(files, path, options, from);
    case "parquet":
      return parquetDocuments(files, path, options.text, from);
    case "text":
      return options.documents === "line"
        ? lineDocuments(files, path, from)
        : blockDocuments(files, path, options.documents, from);
  }
}

interface Line {
  readonly bytes: Uint8Array;
  /** Number of the line, from 1. */
  readonly number: number;
  /** Where the next one begins. */
  readonly end: number;
}

/** Lines of a file as bytes, without their ends; a piece of the file is held at a time. */
async function* linesOf(files: FileReader, path: string, from: Cursor): AsyncGenerator<Line> {
  const size = await files.size(path);
  if (size === undefined) throw new SourceError(`There is no file ${path} any more.`);
  let { at, line } = from;
  let rest = new Uint8Array(0), restAt = at;
  while (at < size) {
    const end = Math.min(size, at + limits.readBytes);
    const piece = await files.read(path, at, end);
    at = end;
    const bytes = new Uint8Array(rest.length + piece.length);
    bytes.set(rest);
    bytes.set(piece, rest.length);
    let begin = 0;
    for (let cut = bytes.indexOf(10, rest.length); cut >= 0; cut = bytes.indexOf(10, begin)) {
      yield { bytes: bytes.subarray(begin, cut), number: line++, end: restAt + cut + 1 };
      begin = cut + 1;
    }
    rest = bytes.slice(begin);
    restAt += begin;
    if (rest.length > limits.documentBytes) throw tooLong(path, line);
  }
  if (rest.length > 0) yield { bytes: rest, number: line, end: size };
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Text of bytes of a line, or of many; a byte order mark at the beginning is no part of it. */
function decode(bytes: Uint8Array, path: string, line: number): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new SourceError(
      `${path}:${line} is not UTF-8. Convert the file (iconv), or leave it out if it is no text.`,
    );
  }
  if (text.includes("\0")) {
    throw new SourceError(`${path}:${line} holds zero bytes, so it is no text. Leave the file out.`);
  }
  return text;
}

async function* lineDocuments(files: FileReader, path: string, from: Cursor): AsyncGenerator<SourceDocument> {
  for await (const { bytes, number, end } of linesOf(files, path, from)) {
    const text = decode(bytes, path, number);
    if (text.trim() === "") continue;
    yield { text, place: `${path}:${number}`, next: { at: end, line: number + 1 } };
  }
}

/** Paragraphs (ended by blank lines), or the whole file. */
async function* blockDocuments(
  files: FileReader,
  path: string,
  documents: "file" | "paragraph",
  from: Cursor,
): AsyncGenerator<SourceDocument> {
  let parts: Uint8Array[] = [], length = 0, first = from.line, next = from;
  const take = (): SourceDocument => {
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
      all[at++] = 10;
    }
    parts = [];
    length = 0;
    return { text: decode(all, path, first), place: `${path}:${first}`, next };
  };
  for await (const { bytes, number, end } of linesOf(files, path, from)) {
    const blank = bytes.every((byte) => byte === 32 || byte === 9 || byte === 13);
    if (blank && documents === "paragraph" && parts.length > 0) {
      next = { at: end, line: number + 1 };
      yield take();
      continue;
    }
    if (blank && parts.length === 0) continue;
    if (parts.length === 0) first = number;
    parts.push(bytes.slice());
    length += bytes.length + 1;
    if (length > limits.documentBytes) throw tooLong(path, first);
    next = { at: end, line: number + 1 };
  }
  if (parts.length > 0) yield take();
}

async function* jsonDocuments(
  files: FileReader,
  path: string,
  { text: field, broken }: ReadOptions,
  from: Cursor,
): AsyncGenerator<SourceDocument> {
  for await (const { bytes, number, end } of linesOf(files, path, from)) {
    const place = `${path}:${number}`, next = { at: end, line: number + 1 };
    if (bytes.every((byte) => byte === 32 || byte === 9 || byte === 13)) continue;
    const read = fieldOf(bytes, field);
    if (typeof read === "string") yield { text: read, place, next };
    else if (broken === "drop") yield { text: undefined, place, next };
    else {
      throw new SourceError(
        `${place} ${read.wrong}. Mend the line, or say broken = "drop" in its [[domain]] to leave such lines out, counted.`,
      );
    }
  }
}

function fieldOf(bytes: Uint8Array, field: string): string | { readonly wrong: string } {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch (error) {
    return {
      wrong: error instanceof SyntaxError ? `is not valid JSON (${error.message})` : "is not UTF-8",
    };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { wrong: "is not a JSON object" };
  }
  const text = Object.hasOwn(value, field) ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof text === "string") return text;
  const names = Object.keys(value).slice(0, 12).map((name) => `"${name}"`).join(", ");
  return {
    wrong: "has no text in the field " +
      `"${field}"${names ? ` (it has ${names}; text = "..." names the field)` : ""}`,
  };
}

function tooLong(path: string, line: number): SourceError {
  return new SourceError(
    `${path}:${line} begins a document of more than ${limits.documentBytes >> 20} MiB, more than is ` +
      `held at once. Cut it into documents: documents = "paragraph" or "line" in its [[domain]], or ` +
      "several files.",
  );
}
