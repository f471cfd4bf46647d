/**
 * Modules of this project as processes, for benches that measure between processes.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";

/** How a module is started. */
export interface ProcessOptions {
  /** Deno's, such as "--allow-net". */
  readonly permissions: readonly string[];
  /** What else Deno is told before the module: --v8-flags, --config. */
  readonly flags?: readonly string[];
  /** Default "null". */
  readonly stdin?: "null" | "piped";
  /** Default "inherit": what goes wrong is shown. */
  readonly stderr?: "inherit" | "null";
  readonly env?: Record<string, string>;
}

/** Starts a module. Its stdout is piped: read it to its end, a process whose pipe is full stands still. */
export function startModule(
  module: URL,
  args: readonly string[],
  { permissions, flags = [], stdin = "null", stderr = "inherit", env = {} }: ProcessOptions,
): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, ...permissions, fromFileUrl(module), ...args],
    stdin,
    stdout: "piped",
    stderr,
    env,
  }).spawn();
}

/** Kills a process, which may have ended by itself, and waits for its end. */
export async function killed(process: Deno.ChildProcess): Promise<void> {
  try {
    process.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended by itself
  }
  await process.status;
}

/** Writes a line to a process's stdin; one that has ended hears nothing any more. */
export async function writeLine(process: Deno.ChildProcess, line: string): Promise<void> {
  const writer = process.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(`${line}\n`));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  } finally {
    writer.releaseLock();
  }
}
