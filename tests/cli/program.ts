/** The program as its users start it: a process. */
import { fromFileUrl } from "@std/path";
import { permissions } from "../../demo/processes.ts";

const program = fromFileUrl(new URL("../../cli.ts", import.meta.url));

/** A command that runs; `within` is a command before it, such as `faketime -f +1h`. */
export function start(
  args: readonly string[],
  cwd?: string,
  within: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Deno.ChildProcess {
  const [command, ...before] = [...within, Deno.execPath()];
  return new Deno.Command(command, {
    args: [...before, "run", "--quiet", ...permissions, program, ...args],
    cwd,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs a command to its end. */
export async function volary(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await start(args).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}
