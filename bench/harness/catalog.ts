/**
 * Which benches there are: files in the folders beside main.ts that export a title. They are read before any is run, as
 * helpers of benches and programs that benches start lie there too.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";

/** A bench as its file tells of it. */
export interface Entry {
  /** The folder that it lies in. */
  readonly theme: string;
  readonly title: string;
  /** Which question it answers: the comment that its file begins with. */
  readonly about: string;
  readonly url: string;
}

/** All benches of the folders in `root` by name, folder by folder. Throws where two have the same name. */
export async function catalog(root: URL): Promise<Map<string, Entry>> {
  const found = new Map<string, Entry>();
  for (const theme of await names(root, (entry) => entry.isDirectory)) {
    const folder = new URL(`${theme}/`, root);
    for (const file of await names(folder, (entry) => entry.isFile && entry.name.endsWith(".ts"))) {
      const url = new URL(file, folder), name = file.slice(0, -".ts".length), other = found.get(name);
      const source = await Deno.readTextFile(fromFileUrl(url));
      const title = source.match(/^export const title\s*=\s*["'`](.*)["'`];?$/m)?.[1];
      if (title === undefined) continue;
      if (other) {
        throw new Error(`Two benches are named "${name}", in ${other.theme}/ and ${theme}/: rename one`);
      }
      found.set(name, { theme, title, about: heading(source), url: url.href });
    }
  }
  return found;
}

/** Names of a folder's entries of one kind, in order. */
async function names(folder: URL, wanted: (entry: Deno.DirEntry) => boolean): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(fromFileUrl(folder)));
  return entries.filter(wanted).map(({ name }) => name).sort();
}

/** The text of a module's comment. */
function heading(source: string): string {
  const comment = source.match(/^\/\*\*\n([^]*?)\n \*\//)?.[1] ?? "";
  return comment.replaceAll(/^ \* ?/gm, "").replace("@module", "").trim();
}

/** Names and titles for people, a block for each folder. */
export function listed(benches: ReadonlyMap<string, Entry>): string {
  const width = Math.max(...[...benches.keys()].map((name) => name.length));
  const themes = Map.groupBy(benches, ([, { theme }]) => theme);
  return [...themes].map(([theme, members]) =>
    [`${theme}/`, ...members.map(([name, { title }]) => `  ${name.padEnd(width)}  ${title}`)].join("\n")
  ).join("\n\n");
}
