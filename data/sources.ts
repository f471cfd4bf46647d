/**
 * Files that a configuration names: single ones, folders, globs.
 *
 * @module
 */
import { globToRegExp, isGlob } from "@std/path";
import { joinPath, withoutSlash } from "../model/files.ts";
import type { FileReader, FileStore } from "../model/files.ts";
import { DataError } from "./errors.ts";
import { limits } from "./limits.ts";

/** What is needed to find and read files. */
export type Folder = FileReader & Pick<FileStore, "list">;

/** What a file holds. */
export type FileKind = "text" | "jsonl" | "parquet";

/** By the ending of its name. */
export function kindOf(path: string): FileKind {
  if (/\.(jsonl|ndjson)$/i.test(path)) return "jsonl";
  return /\.parquet$/i.test(path) ? "parquet" : "text";
}

/** Endings that a folder is searched for; a file that is named itself may have any. */
const endings = /\.(txt|text|md|jsonl|ndjson|parquet)$/i;

/**
 * The files that patterns name, each once, in the order of the patterns and by name within each.
 *
 * @throws {DataError} where a pattern names none.
 */
export async function findFiles(files: Folder, patterns: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const pattern of patterns) {
    const named = isGlob(pattern) ? await glob(files, pattern) : await plain(files, pattern);
    for (const path of named) found.add(path);
  }
  return [...found];
}

async function plain(files: Folder, path: string): Promise<string[]> {
  const folder = withoutSlash(path);
  if (await namesIn(files, folder) !== undefined) {
    const inside = (await walk(files, folder)).filter((file) => endings.test(file));
    if (inside.length > 0) return inside;
    throw new DataError(
      `The folder ${path} holds no data: files that end in .txt, .text, .md, .jsonl, .ndjson or .parquet are looked for, ` +
        `at any depth. Name the files themselves (or a glob) if they end otherwise.`,
    );
  }
  if (await files.size(path) === undefined) throw new DataError(`There is no file or folder ${path}.`);
  return [path];
}

async function glob(files: Folder, pattern: string): Promise<string[]> {
  const parts = pattern.split("/");
  const fixed = parts.slice(0, parts.findIndex((part) => isGlob(part)));
  const root = fixed.length === 0 ? "." : fixed.join("/") || "/";
  const matches = globToRegExp(pattern, { extended: true, globstar: true });
  const prefix = fixed.length === 0 ? "./" : "";
  const found = (await namesIn(files, root) === undefined ? [] : await walk(files, root))
    .filter((path) => matches.test(path.startsWith(prefix) ? path.slice(prefix.length) : path));
  if (found.length > 0) return found;
  throw new DataError(
    `No file matches ${pattern}. (* stays within a folder, ** goes through folders at any depth, {a,b} means either.)`,
  );
}

/** All files under a folder by name; names that begin with a dot are left out. */
async function walk(files: Folder, folder: string, depth = 0): Promise<string[]> {
  if (depth > limits.folderDepth) {
    throw new DataError(
      `${folder} lies more than ${limits.folderDepth} folders deep: a link that leads back into its own folder, most likely.`,
    );
  }
  const found: string[] = [];
  for (const name of (await namesIn(files, folder) ?? []).toSorted()) {
    if (name.startsWith(".")) continue;
    const path = joinPath(folder, name);
    if (await namesIn(files, path) === undefined) found.push(path);
    else found.push(...await walk(files, path, depth + 1));
  }
  return found;
}

/** Names in a folder; undefined for what is none. */
async function namesIn(files: Folder, path: string): Promise<string[] | undefined> {
  try {
    return await files.list(path);
  } catch {
    return undefined;
  }
}
