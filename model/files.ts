/**
 * The few things that checkpoints and texts need of a file system. Anything that stores bytes by name fits: the disk,
 * memory in tests, the storage of the mesh's Runtime.
 *
 * @module
 */

/** Reads byte ranges of named files. */
export interface FileReader {
  /** Bytes `start`..`end` of a file, `end` not included. */
  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Length in bytes, or undefined where there is no such file. */
  size(path: string): Promise<number | undefined>;
}

/** Also writes them. */
export interface FileStore extends FileReader {
  /** Writes `bytes` at `position`, making the file where it is missing. */
  write(path: string, position: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Returns once the file's (or folder's) contents are on the disk. */
  sync(path: string): Promise<void>;
  /** Moves a file or folder, replacing a file that stood there. */
  rename(from: string, to: string): Promise<void>;
  makeFolder(path: string): Promise<void>;
  /** Names (not paths) in a folder; rejects where there is none. */
  list(path: string): Promise<string[]>;
  remove(path: string): Promise<void>;
}

/** Largest JSON file that is read whole: a tokenizer.json of 150,000 entries has about 12 MB. */
const largestText = 256 << 20;

/** A whole UTF-8 file, or undefined where there is none. @throws {RangeError} beyond 256 MiB, @throws {TypeError} if not UTF-8. */
export async function readText(files: FileReader, path: string): Promise<string | undefined> {
  const size = await files.size(path);
  if (size === undefined) return undefined;
  if (size > largestText) {
    throw new RangeError(`${path} has ${size} bytes; at most ${largestText} are read as text.`);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(await files.read(path, 0, size));
}

/** Writes a file so that its name always leads to the old or to the new content, never to a part of it. */
export async function writeAtomic(
  files: FileStore,
  path: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const partial = path + ".partial";
  if (await files.size(partial) !== undefined) await files.remove(partial);
  await files.write(partial, 0, bytes);
  await files.sync(partial);
  await files.rename(partial, path);
  await files.sync(folderOf(path));
}

/** `folder/name`. */
export function joinPath(folder: string, name: string): string {
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}

/** The folder of a path; "." where it names none. */
export function folderOf(path: string): string {
  const cut = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"));
  if (cut < 0) return ".";
  return cut === 0 ? path.slice(0, 1) : path.slice(0, cut);
}

/** A path without slashes at its end, so that names can be made beside it. */
export function withoutSlash(path: string): string {
  return path.length > 1 ? path.replace(/[/\\]+$/, "") || "/" : path;
}
