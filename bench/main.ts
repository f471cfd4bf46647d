/**
 * `deno task bench [NAME...]`: measurements, one file a question. A bench is a file here that exports `title` (one line) and
 * `run`; it prints medians and ratios within the same run, as text for people or with --json as objects.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { nearest } from "../coordinator/nearest.ts";
import { explain } from "../cli/errors.ts";
import { quietDriver } from "../cli/driver.ts";
import { say } from "../cli/verb.ts";

/** What a bench is given. */
export interface BenchOptions {
  /** One JSON object a line on stdout instead of text. */
  readonly json: boolean;
  /** What stood behind the name on the command line: --check, for instance. */
  readonly args: readonly string[];
}

/** What a bench exports. */
export interface Bench {
  readonly title: string;
  /** Answers with false (or throws) where something is worse than it must be; any other answer is fine. */
  run(options: BenchOptions): Promise<unknown>;
}

/** A bench before it is run. */
interface Found {
  /** The folder that it lies in. */
  readonly theme: string;
  readonly title: string;
  readonly url: string;
}

/** Benches by name: the files in the folders beside this one that say that they are one. */
async function benches(): Promise<Map<string, Found>> {
  const found = new Map<string, Found>(), here = new URL(".", import.meta.url);
  for (const theme of await names(here, (entry) => entry.isDirectory)) {
    const folder = new URL(`${theme}/`, here);
    for (const file of await names(folder, (entry) => entry.isFile && entry.name.endsWith(".ts"))) {
      const url = new URL(file, folder).href, name = file.slice(0, -".ts".length), other = found.get(name);
      // Read before it is run: helpers of benches lie there too, and some are programs of their own.
      const title = (await Deno.readTextFile(fromFileUrl(url))).match(
        /^export const title\s*=\s*["'`](.*)["'`];?$/m,
      )?.[1];
      if (title === undefined) continue;
      if (other) {
        throw new Error(`Two benches are named "${name}", in ${other.theme}/ and ${theme}/: rename one`);
      }
      found.set(name, { theme, title, url });
    }
  }
  return found;
}

/** Names of a folder's entries of one kind, in order. */
async function names(folder: URL, wanted: (entry: Deno.DirEntry) => boolean): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(fromFileUrl(folder)));
  return entries.filter(wanted).map(({ name }) => name).sort();
}

async function main(args: readonly string[]): Promise<number> {
  const known = await benches();
  const names = args.filter((arg) => !arg.startsWith("-"));
  const list = [...known].map(([name, { title }]) => `  ${name.padEnd(12)}  ${title}`).join("\n");
  if (args.includes("--help") || known.size === 0) {
    say(
      `deno task bench [NAME...] [--json]\n\nWithout a name everything is measured, one after the other.\n\n${list}`,
    );
    return 0;
  }
  const strange = names.find((name) => !known.has(name));
  if (strange !== undefined) {
    const near = nearest(strange, [...known.keys()]);
    say(`There is no bench "${strange}"${near ? `; did you mean "${near}"?` : "."} There are:\n${list}`);
    return 2;
  }
  const json = args.includes("--json"), flags = args.filter((arg) => arg.startsWith("-") && arg !== "--json");
  let failed = 0;
  for (const name of names.length > 0 ? names : known.keys()) {
    const { title, url } = known.get(name)!;
    say(`\n${name}: ${title}`);
    const bench = await import(url) as Bench;
    if (await bench.run({ json, args: flags }) === false) failed++;
  }
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) {
  quietDriver();
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    say(explain(error) ?? (error instanceof Error ? error.stack ?? String(error) : String(error)));
    Deno.exit(1);
  }
}
