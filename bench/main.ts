/**
 * `deno task bench [NAME...]`: measurements, one file a question, in folders by theme. They print medians and ratios within
 * the same run, as text for people or with --json as objects.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { nearest } from "../coordinator/nearest.ts";
import { quietDriver } from "../cli/driver.ts";
import { exitCode, explain } from "../cli/errors.ts";
import { say, UsageError } from "../cli/verb.ts";
import { permissions } from "../demo/processes.ts";
import { type Bench, flagsText, output, readBenchFlags } from "./harness/bench.ts";
import { catalog, type Entry, listed } from "./harness/catalog.ts";

const HELP = `deno task bench [NAME...] [--json] [--FLAG=VALUE...]

Without a name everything is measured, one after the other. deno task bench NAME --help tells what one measures,
what is wanted of it, and its flags. With --json it prints one object a line.`;

async function main(args: readonly string[]): Promise<number> {
  const benches = await catalog(new URL(".", import.meta.url));
  const asked = args.filter((arg) => !arg.startsWith("-")), flags = args.filter((arg) => arg.startsWith("-"));
  const strange = asked.find((name) => !benches.has(name));
  if (strange !== undefined) {
    const near = nearest(strange, [...benches.keys()]);
    const value = flags.length > 0
      ? ` A flag's value stands behind an equals sign: ${flags[0]}=${strange}.`
      : "";
    throw new UsageError(
      `There is no bench "${strange}"${near ? `; did you mean "${near}"?` : "."}${value} There are:\n\n${
        listed(benches)
      }`,
    );
  }
  const help = flags.includes("--help");
  if (help && asked.length === 0) {
    console.log(`${HELP}\n\n${listed(benches)}`);
    return 0;
  }
  const chosen: Chosen[] = [];
  for (const name of asked.length > 0 ? asked : benches.keys()) {
    const entry = benches.get(name)!;
    chosen.push({ name, entry, bench: await import(entry.url) });
  }
  if (help) {
    console.log(chosen.map(described).join("\n\n"));
    return 0;
  }
  // All flags are read before anything is measured: some benches take hours.
  const ready = chosen.map((one) => prepared(one, flags));
  if (ready.length === 1) return await ready[0]() ? 0 : 1;
  let failed = 0;
  for (const { name } of chosen) if (!await alone(name, flags)) failed++;
  return failed === 0 ? 0 : 1;
}

/** A bench that was asked for. */
interface Chosen {
  readonly name: string;
  readonly entry: Entry;
  readonly bench: Bench;
}

function described({ name, entry: { title, about }, bench }: Chosen): string {
  return `${name}: ${title}\n\n${about}\n\nFlags: ${flagsText(bench.flags).join(" ")}`;
}

/** Reads a bench's flags; what is given back measures. */
function prepared(
  { name, entry: { title }, bench }: Chosen,
  args: readonly string[],
): () => Promise<boolean> {
  try {
    const flags = readBenchFlags(args, bench.flags);
    return async () => {
      say(`\n${name}: ${title}`);
      const good = await bench.run({ flags, ...output(name, args.includes("--json")) }) !== false;
      if (!good) say(`${name}: something is worse than it must be; the figures above say what.`);
      return good;
    };
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${name}: ${error.message}`);
    throw error;
  }
}

/** Measures one of several in a process of its own: drivers and what they have compiled stay with a process. */
async function alone(name: string, flags: readonly string[]): Promise<boolean> {
  const program = fromFileUrl(import.meta.url);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...permissions, "--allow-run", program, name, ...flags],
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  return success;
}

if (import.meta.main) {
  quietDriver();
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    say(explain(error) ?? (error instanceof Error ? error.stack ?? String(error) : String(error)));
    Deno.exit(exitCode(error));
  }
}
