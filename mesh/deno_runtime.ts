/**
 * The real world as Deno shows it: clock, chance and files.
 *
 * @module
 */
import { dirname } from "@std/path";
import { statfs } from "node:fs/promises";
import type { Runtime, Storage } from "./runtime.ts";

/** The `Runtime` of this process. */
export function denoRuntime(): Runtime {
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    timer(ms, fire) {
      const id = setTimeout(fire, ms);
      return { cancel: () => clearTimeout(id) };
    },
    random: (count) => crypto.getRandomValues(new Uint8Array(count)),
    storage: denoStorage,
  };
}

/** Files. A rename is on the disk when it returns, so that it can be the last step of something that must be atomic. */
const denoStorage: Storage = {
  async read(path, start, end) {
    using file = await Deno.open(path, { read: true });
    file.seekSync(start, Deno.SeekMode.Start); // moves a number, never waits for the disk
    const bytes = new Uint8Array(end - start);
    for (let at = 0; at < bytes.length;) {
      const count = await file.read(bytes.subarray(at));
      if (count === null) {
        throw new RangeError(`Cannot read bytes ${start} to ${end} of ${path}: it ends at ${start + at}`);
      }
      at += count;
    }
    return bytes;
  },
  async size(path) {
    try {
      return (await Deno.stat(path)).size;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  },
  async write(path, position, bytes) {
    using file = await Deno.open(path, { write: true, create: true });
    file.seekSync(position, Deno.SeekMode.Start);
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  },
  sync,
  async rename(from, to) {
    await Deno.rename(from, to);
    await sync(dirname(to));
  },
  async makeFolder(path) {
    await Deno.mkdir(path, { recursive: true });
  },
  async list(path) {
    const names: string[] = [];
    for await (const entry of Deno.readDir(path)) names.push(entry.name);
    return names.sort();
  },
  async remove(path) {
    await Deno.remove(path, { recursive: true });
  },
  free,
};

/** As the file system tells; undefined without the permission to ask (--allow-sys=statfs) or where it has no answer. */
async function free(path: string): Promise<number | undefined> {
  const may = await Deno.permissions.query({ name: "sys", kind: "statfs" });
  if (may.state !== "granted") return undefined;
  try {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT" || dirname(path) === path) return undefined;
    return await free(dirname(path));
  }
}

async function sync(path: string): Promise<void> {
  // Windows opens no folders, and keeps their entries in order without being asked.
  if (Deno.build.os === "windows" && (await Deno.stat(path)).isDirectory) return;
  using file = await Deno.open(path, { read: true });
  await file.sync();
}
