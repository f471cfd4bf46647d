/**
 * Cleaning, which changes a document, and checks of its quality, which only say whether it stays.
 *
 * The checks follow the heuristics published with Gopher (Rae et al., 2021, appendix A1.1) and C4 (Raffel et al., 2020),
 * stated so that they also hold for scripts without spaces.
 *
 * @module
 */
import type { PrepareConfig } from "./config.ts";

/** Characters without a glyph that come from pages and converters: controls but tab and line feed, marks of width zero, BOM. */
const invisible = // deno-lint-ignore no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u200b\u2060\ufeff\ufff9-\ufffb]/g;

/**
 * The text in Unicode's composed form (NFC), with line feeds only, without invisible characters, spaces at the ends of
 * lines, white space at both ends or more than one blank line in a row, and lone surrogates as U+FFFD.
 */
export function cleanText(text: string): string {
  return text.toWellFormed().normalize("NFC").replace(/\r\n?|\u2028|\u2029/g, "\n").replace(invisible, "")
    .replace(/[^\S\n]+$/gm, "").replace(/\n{3,}/g, "\n\n").trim();
}

/** Why a document does not stay, as a key of the report; undefined where it stays. */
export function qualityFault(text: string, quality: PrepareConfig["quality"]): string | undefined {
  if (text.length < quality.shortest) return "too short";
  if (text.length > quality.longest) return "too long";
  let visible = 0, letters = 0, digits = 0, replaced = 0;
  for (const [character] of text.matchAll(/\S/gu)) {
    visible++;
    if (character >= "0" && character <= "9") digits++;
    else if (character === "\ufffd") replaced++;
    else if (isLetter(character)) letters++;
  }
  if (replaced > quality.replaced * visible) return "wrongly decoded";
  if (letters < quality.letters * visible) return "few letters";
  if (digits > quality.digits * visible) return "many digits";
  if (repeatedLines(text) > quality.repeated_lines) return "repeated lines";
  if (text.length >= fewestForPieces && repeatedPiece(text) > quality.repeated_piece) {
    return "repeated pieces";
  }
  return wordFault(text, quality);
}

const letter = /[\p{L}\p{M}]/u;
function isLetter(character: string): boolean {
  const code = character.charCodeAt(0);
  if (code < 128) return (code | 32) >= 97 && (code | 32) <= 122;
  return letter.test(character);
}

/** Share of the characters that stand in lines which were there before. */
function repeatedLines(text: string): number {
  const seen = new Set<string>();
  let all = 0, again = 0;
  for (const line of text.split("\n")) {
    const trimmed = line.trim();
    if (trimmed === "") continue;
    all += trimmed.length;
    if (seen.has(trimmed)) again += trimmed.length;
    seen.add(trimmed);
  }
  return all === 0 ? 0 : again / all;
}

/** Characters of a piece, and of the shortest text in which they are counted. */
const pieceLength = 10, fewestForPieces = 200;
/** Pieces counted at most, from the beginning: enough to see a text that repeats itself. */
const mostPieces = 50_000;

/** Share of the characters that the most frequent piece covers, overlaps counted once. */
function repeatedPiece(text: string): number {
  const length = Math.min(text.length, mostPieces);
  const counts = new Map<string, { count: number; end: number }>();
  let most = 0;
  for (let i = 0; i + pieceLength <= length; i++) {
    const piece = text.slice(i, i + pieceLength);
    const found = counts.get(piece);
    if (found === undefined) counts.set(piece, { count: 1, end: i + pieceLength });
    else if (i >= found.end) {
      found.end = i + pieceLength;
      most = Math.max(most, ++found.count);
    }
  }
  return most * pieceLength / length;
}

/** Words counted from which their lengths mean something. */
const fewestWords = 20;

function wordFault(text: string, quality: PrepareConfig["quality"]): string | undefined {
  let words = 0, characters = 0;
  for (const [word] of text.matchAll(/[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}]+/gu)) {
    words++;
    characters += word.length;
  }
  if (words < fewestWords) return undefined;
  const mean = characters / words;
  if (mean < quality.shortest_words) return "short words";
  return mean > quality.longest_words ? "long words" : undefined;
}
