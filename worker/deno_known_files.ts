/**
 * Where a worker in Deno keeps what it measured about its device, so that the next one need not measure again.
 *
 * @module
 */
import { join } from "@std/path";

/** Text beyond this is no file of ours. */
const MOST_BYTES = 1 << 20;

/** The user's cache folder for this program; nothing where the system names none. */
export function cacheFolder(): string | undefined {
  const { env, build } = Deno;
  const home = env.get(build.os === "windows" ? "USERPROFILE" : "HOME");
  const base = build.os === "windows"
    ? env.get("LOCALAPPDATA")
    : build.os === "darwin"
    ? home && join(home, "Library", "Caches")
    : env.get("XDG_CACHE_HOME") || (home && join(home, ".cache"));
  return base ? join(base, "volary") : undefined;
}

/** Each kind of text in a file of its own. */
const FILES = { tuned: "tunings.json", measured: "speeds.json" } as const;

/** The text that was kept in `folder`; nothing where there is none or it cannot be read: then it is measured anew. */
export async function readKnown(
  folder: string | undefined,
  what: keyof typeof FILES,
): Promise<string | undefined> {
  if (folder === undefined) return undefined;
  const file = join(folder, FILES[what]);
  try {
    if ((await Deno.stat(file)).size > MOST_BYTES) return undefined;
    return await Deno.readTextFile(file);
  } catch {
    return undefined;
  }
}

/** Keeps the text, whole or not at all. A cache that cannot be written costs a second at the next start, no more. */
export async function writeKnown(
  folder: string | undefined,
  what: keyof typeof FILES,
  text: string,
): Promise<void> {
  if (folder === undefined) return;
  const file = join(folder, FILES[what]), part = `${file}.${Deno.pid}`;
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(part, text);
    await Deno.rename(part, file);
  } catch {
    await Deno.remove(part).catch(() => {});
  }
}
