/**
 * Text to train on: plain files cut into documents, some of them kept for validation, all turned into one run of ids.
 *
 * @module
 */
import { TextError } from "../errors.ts";
import { type FileReader, readText } from "../files.ts";
import { randomStream } from "../random.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A text cut in two by document. */
export interface SplitText {
  readonly train: readonly string[];
  readonly validation: readonly string[];
}

/** A run of ids and the text that it stands for. */
export interface TokenizedText {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Bytes of UTF-8 of the documents, without special tokens. */
  readonly bytes: number;
}

/**
 * Reads a text file.
 *
 * @throws {TextError} if it is missing, empty, binary, not UTF-8 or too large to read at once.
 */
export async function readDocumentFile(files: FileReader, path: string): Promise<string> {
  const fail = (what: string) => new TextError(`${path} cannot be used as text: ${what}`);
  let text: string | undefined;
  try {
    text = await readText(files, path);
  } catch (error) {
    if (error instanceof RangeError) throw fail(`${error.message} Split it into several files.`);
    if (error instanceof TypeError) {
      throw fail("it is not UTF-8. Convert it (iconv), or leave it out if it is binary.");
    }
    throw error;
  }
  if (text === undefined) throw fail("there is no such file.");
  if (text.includes("\0")) throw fail("it holds zero bytes, so it is binary. Give plain UTF-8 text.");
  if (text.trim() === "") throw fail("it is empty.");
  return text;
}

/** Blank lines separate documents where they make at least this many; otherwise lines are taken in groups. */
const fewestParagraphs = 32;
/** Lines of a document in a text without blank lines, such as a word list. */
const linesOfGroup = 16;

/** Documents in order; put together again they give the text, character for character. */
export function splitDocuments(text: string): string[] {
  const lines = linesOf(text);
  const paragraphs: string[] = [];
  let current = "", ended = false, written = false;
  for (const line of lines) {
    const blank = line.trim() === "";
    if (!blank && ended) { // the first line after blank ones begins the next document
      paragraphs.push(current);
      current = "";
      ended = false;
    }
    current += line;
    written ||= !blank;
    ended = blank && written;
  }
  if (current !== "") paragraphs.push(current);
  if (paragraphs.length >= fewestParagraphs) return paragraphs;
  const groups: string[] = [];
  for (let i = 0; i < lines.length; i += linesOfGroup) groups.push(lines.slice(i, i + linesOfGroup).join(""));
  return groups;
}

/** Lines with their ends. */
function linesOf(text: string): string[] {
  const lines: string[] = [];
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\n", at);
    const next = end < 0 ? text.length : end + 1;
    lines.push(text.slice(at, next));
    at = next;
  }
  return lines;
}

/**
 * Sets about `share` of the documents aside. Where a document goes depends on the seed and its own content only, so that
 * equal documents stay on one side and a longer text moves none.
 *
 * @throws {TextError} if one side would be empty.
 */
export function splitValidation(documents: readonly string[], share: number, seed: number): SplitText {
  if (!(share > 0 && share < 1)) {
    throw new TextError(
      `The validation share is ${share}; it must lie between 0 and 1 (0.02 keeps every fiftieth document).`,
    );
  }
  const train: string[] = [], validation: string[] = [];
  for (const document of documents) {
    const chance = randomStream(seed, "validation", ...hash(document)).uniform();
    (chance < share ? validation : train).push(document);
  }
  if (train.length === 0 || validation.length === 0) {
    throw new TextError(
      `${documents.length} documents are too few to keep ${share} of them for validation. Give more text, a larger ` +
        `share, or a validation file of its own.`,
    );
  }
  return { train, validation };
}

/** Ids of all documents in one run: each is preceded by the tokenizer's prefix and followed by its end, where it has one. */
export function tokenizeDocuments(documents: Iterable<string>, tokenizer: Tokenizer): TokenizedText {
  const runs: Uint32Array[] = [];
  const { prefix, eos } = tokenizer;
  let length = 0, bytes = 0;
  for (const document of documents) {
    const ids = tokenizer.encode(document);
    runs.push(ids);
    length += prefix.length + ids.length + (eos === undefined ? 0 : 1);
    bytes += byteLength(document);
  }
  const tokens = new Uint32Array(length);
  let at = 0;
  for (const ids of runs) {
    tokens.set(prefix, at);
    tokens.set(ids, at + prefix.length);
    at += prefix.length + ids.length;
    if (eos !== undefined) tokens[at++] = eos;
  }
  return { tokens, bytes };
}

/** Bits for each byte of text, from the sum of the tokens' negative log-likelihoods in nats. */
export function bitsPerByte(nats: number, bytes: number): number {
  return nats / Math.LN2 / bytes;
}

/** Bytes of a text in UTF-8; a lone surrogate counts as the three bytes of U+FFFD. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Two independent 32-bit FNV-1a sums (http://www.isthe.com/chongo/tech/comp/fnv/) over UTF-16 units. */
function hash(text: string): [number, number] {
  let a = 0x811c9dc5, b = 0x050c5d1f;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ (unit + 0x9e37), 0x01000193);
  }
  return [a >>> 0, b >>> 0];
}
