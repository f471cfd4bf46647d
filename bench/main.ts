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

/** Benches by name: the files that say that they are one. */
async function benches(): Promise<Map<string, { title: string; url: string }>> {
  const found = new Map<string, { title: string; url: string }>();
  for await (const { name, isFile } of Deno.readDir(fromFileUrl(new URL(".", import.meta.url)))) {
    if (!isFile || !name.endsWith(".ts") || name === "main.ts") continue;
    const url = new URL(name, import.meta.url).href;
    // Read before it is run: helpers of benches lie here too, and some are programs of their own.
    const title = (await Deno.readTextFile(fromFileUrl(url))).match(
      /^export const title\s*=\s*["'`](.*)["'`];?$/m,
    )?.[1];
    if (title !== undefined) found.set(name.slice(0, -3), { title, url });
  }
  return new Map([...found].sort(([a], [b]) => a < b ? -1 : 1));
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
