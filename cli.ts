/**
 * The program: `volary VERB ...`.
 *
 * @module
 */
import { nearest } from "./coordinator/nearest.ts";
import { quietDriver } from "./cli/driver.ts";
import { exitCode, explain } from "./cli/errors.ts";
import { printJson, say, UsageError, type Verb } from "./cli/verb.ts";
import { verbs } from "./cli/verbs.ts";
import project from "./deno.json" with { type: "json" };

/** What stands before a command line of this program when it is typed. */
const TYPED = "deno task volary";

function verbHelp({ help, examples }: Verb): string {
  return [help, "", "Examples:", ...examples.map((line) => `  ${TYPED} ${line}`)].join("\n");
}

function help(): string {
  const width = Math.max(...Object.keys(verbs).map((name) => name.length));
  return [
    "volary VERB ...      trains a mixture-of-experts model on whatever GPUs people have",
    "",
    ...Object.entries(verbs).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    `${TYPED} VERB --help explains a verb, with examples. Exit codes: 0 done, 1 failed, 2 used wrongly.`,
    "With --json, one JSON object a line goes to stdout; text for people goes to stderr.",
  ].join("\n");
}

/** Runs one command line and answers with its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    // Asked for, it is an answer and can be piped; otherwise it is what was wrong.
    if (name === undefined) say(help());
    else console.log(help());
    return name === undefined ? 2 : 0;
  }
  if (name === "--version" || name === "version") {
    console.log(`volary ${project.version} (deno ${Deno.version.deno})`);
    return 0;
  }
  quietDriver();
  try {
    if (!Object.hasOwn(verbs, name)) {
      const near = nearest(name, Object.keys(verbs));
      throw new UsageError(`There is no verb "${name}"${near ? `; did you mean "${near}"?` : "."}`);
    }
    const { verb } = await verbs[name].load();
    if (rest.includes("--help") || rest.includes("-h")) {
      console.log(verbHelp(verb));
      return 0;
    }
    return await verb.run(rest);
  } catch (error) {
    return failed(name, rest, error);
  }
}

function failed(name: string, args: readonly string[], error: unknown): number {
  const text = explain(error), code = exitCode(error);
  const [kind, message] = error instanceof Error ? [error.name, error.message] : ["Error", String(error)];
  if (args.includes("--json")) printJson({ event: "error", name: kind, message });
  if (text === undefined) {
    say(`This is a bug of volary, not your fault. Please report it with what follows.\n`);
    say(error instanceof Error ? error.stack ?? String(error) : String(error));
    return code;
  }
  const known = Object.hasOwn(verbs, name);
  say(code === 2 ? `${text} See: ${TYPED} ${known ? `${name} ` : ""}--help` : text);
  return code;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
