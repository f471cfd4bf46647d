/**
 * Folders that benches work in.
 *
 * @module
 */

/** A new folder for `work`, removed afterwards; in the system's temporary one unless `parent` is another. */
export async function inTemporaryFolder<T>(
  work: (folder: string) => Promise<T>,
  parent?: string,
): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "volary-bench-", ...(parent ? { dir: parent } : {}) });
  try {
    return await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
