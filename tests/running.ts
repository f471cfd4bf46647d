/** What tests of the program's processes share: listening to them, and certificates. */
import { join } from "@std/path";
import type { Running } from "../demo/processes.ts";

/** An object that a process prints. */
export type Line = Record<string, unknown>;

/** The first of a process's events that is called `name`; throws with what the process said where it ends before. */
export async function firstEvent(running: Running, name: string): Promise<Line> {
  for (let next = await running.events.next(); !next.done; next = await running.events.next()) {
    if (next.value.event === name) return next.value;
  }
  throw new Error(`${running.name} ended before it said "${name}": ${running.said()}`);
}

/** The arguments with which a worker on plain arrays joins under a name, with a key of its own in a folder. */
export function joinArguments(invite: unknown, name: string, folder: string): string[] {
  const key = join(folder, `${name}.key`);
  return ["join", String(invite), "--device", "reference", "--name", name, "--key", key];
}

/** All events that are left; a process whose events nobody reads stands still. */
export async function remainingEvents(running: Running): Promise<Line[]> {
  return await Array.fromAsync(running.events);
}

/**
 * The arguments with which openssl makes a key and a certificate for a day that speaks for itself alone. `alternative`: for
 * whom, "DNS:localhost" or "IP:10.0.0.1".
 */
export function certificateArguments(
  name: string,
  alternative: string,
  files: { readonly key: string; readonly cert: string },
): string[] {
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  const extensions = [`subjectAltName=${alternative}`, "basicConstraints=critical,CA:FALSE"];
  return [
    ...["req", "-x509", ...curve, "-nodes", "-days", "1", "-subj", `/CN=${name}`],
    ...extensions.flatMap((extension) => ["-addext", extension]),
    ...["-keyout", files.key, "-out", files.cert],
  ];
}
