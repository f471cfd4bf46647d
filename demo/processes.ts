/**
 * The program's verbs as processes of this machine, ended with the one that started them.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { objects } from "../cli/lines.ts";

const program = fromFileUrl(new URL("../cli.ts", import.meta.url));
/** What Deno is permitted to do for the program. */
export const permissions = [
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys=networkInterfaces,hostname,uid,statfs",
];

/**
 * How `deno task volary` starts Deno, too: heaps of JavaScript stay near what lives in them, and the device may ask for the
 * collection of what its commands leave. A worker is then after an hour as large as after a minute. Nurseries of 8 MB hold what
 * datagrams and frames leave within a step; with smaller ones collecting takes a tenth of a small step's time.
 */
export const lean = "--v8-flags=--expose-gc,--max-semi-space-size=8,--heap-growing-percent=20";

/** A verb that runs. */
export interface Running {
  readonly name: string;
  readonly pid: number;
  /** The JSON objects that it prints, as they come; read them all, a process whose pipe is full stands still. */
  readonly events: AsyncGenerator<Record<string, unknown>>;
  readonly status: Promise<Deno.CommandStatus>;
  /** The end of what it wrote to stderr (nothing where that is shown). */
  said(): string;
  /** Asks it to end and waits; it is killed after five seconds. */
  end(): Promise<void>;
}

/** Starts `volary VERB ...` with --json. `show` passes its text for people on to this process's stderr. */
export function volary(
  name: string,
  args: readonly string[],
  { show = false, env = {}, within = [] }: {
    show?: boolean;
    env?: Record<string, string>;
    /** A command that runs others, such as `ip netns exec NAME`. */
    within?: readonly string[];
  } = {},
): Running {
  const [command, ...first] = [...within, Deno.execPath()];
  const process = new Deno.Command(command, {
    args: [...first, "run", lean, ...permissions, program, ...args, "--json"],
    stdin: "null",
    stdout: "piped",
    stderr: show ? "inherit" : "piped",
    env,
  }).spawn();
  let text = "";
  const heard = show ? Promise.resolve() : (async () => {
    // Four screens of the end are enough to say why something failed.
    for await (const piece of process.stderr.pipeThrough(new TextDecoderStream())) {
      text = (text + piece).slice(-8_000);
    }
  })();
  return {
    name,
    pid: process.pid,
    events: objects(process.stdout),
    status: process.status,
    said: () => text.trim(),
    async end() {
      try {
        process.kill("SIGTERM");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended already
      }
      const timer = setTimeout(() => process.kill("SIGKILL"), 5_000);
      await process.status;
      clearTimeout(timer);
      await heard;
    },
  };
}
