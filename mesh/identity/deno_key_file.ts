/**
 * Files that only their owner may read: keys, tokens, lists of who was let in. For Deno only.
 *
 * @module
 */
import { dirname } from "@std/path";
import { KeyFileError } from "../errors.ts";
import { type Identity, identityOfSeed, identityText, KEY_BYTES, seedOfText } from "./identity.ts";
import type { Chance } from "../runtime.ts";

/** The key is that of a program that runs. */
export class KeyInUseError extends KeyFileError {}

/** A key that no other program on this machine uses until it is released. */
export interface HeldKey {
  readonly identity: Identity;
  readonly path: string;
  /** Whether there was none before. */
  readonly made: boolean;
  readonly release: () => void;
}

/** What others may do with a file: nothing. */
const OWNER_ONLY = 0o600, OTHERS = 0o077, OWNER_READS = 0o400;
/** Bytes of a key's or a list's file: 16,384 workers of some 200 bytes each are below. */
const MOST_BYTES = 8 << 20;

/**
 * Reads the key of a file, making both where there is none, and keeps it for this program. Throws `KeyFileError` for a file
 * that others may read, that this user may not, or that is no key.
 */
export async function holdKey(path: string, chance: Chance): Promise<HeldKey> {
  await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await openOwn(path) ?? await Deno.open(path, {
    read: true,
    write: true,
    create: true,
    mode: OWNER_ONLY,
  });
  try {
    if (!await file.tryLock(true)) {
      throw new KeyInUseError(`The key ${path} is in use by another worker or coordinator on this machine.`);
    }
    let text = await readAll(file);
    const made = text === "";
    if (made) {
      text = identityText(chance.random(KEY_BYTES));
      using out = await Deno.open(path, { write: true });
      await write(path, text, out);
    }
    const seed = seedOfText(text);
    if (seed === undefined) {
      throw new KeyFileError(
        `${path} is no key of Volary, or damaged. Put back a copy, or remove it to have a new one made: its owner is then ` +
          "a stranger to those who knew the old one.",
      );
    }
    return { identity: await identityOfSeed(seed), path, made, release: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The text of a file that only its owner may read, or undefined where there is none. Throws `KeyFileError` else. */
export async function readOwn(path: string): Promise<string | undefined> {
  using file = await openOwn(path);
  return file && await readAll(file);
}

/** Replaces a file by one that only its owner may read, in one step. */
export async function writeOwn(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  await Deno.remove(partial).catch(() => {}); // one with other rights, perhaps
  using file = await Deno.open(partial, { write: true, createNew: true, mode: OWNER_ONLY });
  await write(partial, text, file);
  await Deno.rename(partial, path);
}

async function write(path: string, text: string, file: Deno.FsFile): Promise<void> {
  if (Deno.build.os !== "windows") await Deno.chmod(path, OWNER_ONLY);
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  await file.sync();
}

/** Opens what is there, if its rights are as they should be. */
async function openOwn(path: string): Promise<Deno.FsFile | undefined> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.PermissionDenied) throw unreadable(path);
    throw error;
  }
  try {
    const { mode, isFile } = await file.stat();
    if (!isFile) throw new KeyFileError(`${path} is a folder or a device where a file with a key should be.`);
    if (mode === null || Deno.build.os === "windows") return file;
    if ((mode & OWNER_READS) === 0) throw unreadable(path); // also where this user may read everything
    if ((mode & OTHERS) !== 0) {
      throw new KeyFileError(
        `Others than its owner may use ${path} (mode ${(mode & 0o777).toString(8)}): whoever can read ` +
          `it can pretend to be you. If nobody has, make it yours alone: chmod 600 ${path}. Else remove ` +
          "it, and a new one is made.",
      );
    }
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

function unreadable(path: string): KeyFileError {
  return new KeyFileError(
    `This user may not read ${path}. Run this as the file's owner, give that owner its rights back (chmod 600 ${path}), or name ` +
      "another file.",
  );
}

async function readAll(file: Deno.FsFile): Promise<string> {
  const { size } = await file.stat();
  if (size > MOST_BYTES) throw new KeyFileError(`A file of ${size} bytes is no key and no list of keys.`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let count; at < size && (count = await file.read(bytes.subarray(at))) !== null;) at += count;
  return new TextDecoder().decode(bytes.subarray(0, at));
}
