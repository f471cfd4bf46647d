/**
 * What a library's data channel carries without anything of ours: the yardstick of links and of meshes.
 *
 * @module
 */
import { lines } from "../../cli/lines.ts";
import { killed, startModule, writeLine } from "../harness/processes.ts";

/**
 * Bytes a second of one channel between two processes that carry so many; `flags` of Deno as they are measured beside others.
 * Throws where a process ends before it has measured anything.
 */
export async function rawGoodput(
  transport: "werift" | "native",
  bytes: number,
  flags: readonly string[] = [],
): Promise<number> {
  const permissions = ["--allow-net", "--allow-env", "--allow-sys", "--allow-read"];
  const [sender, receiver] = ["send", "receive"].map((role) => {
    const process = startModule(new URL(`raw_${transport}.ts`, import.meta.url), [role, String(bytes)], {
      permissions: transport === "native" ? [...permissions, "--allow-ffi"] : permissions,
      flags,
      stdin: "piped",
    });
    const told = lines(process.stdout);
    const next = async () => {
      const { value } = await told.next();
      if (value === undefined) throw new Error(`raw_${transport}.ts ended before it had measured anything`);
      return value;
    };
    return { process, next };
  });
  try {
    await writeLine(receiver.process, await sender.next());
    await writeLine(sender.process, await receiver.next());
    return Number(JSON.parse(await receiver.next()).bytesPerSecond);
  } finally {
    for (const { process } of [sender, receiver]) {
      await killed(process);
      await process.stdin.close().catch(() => {}); // broken where it had ended
    }
  }
}
