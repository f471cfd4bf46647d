/** A coordinator that ends lets its workers go; one that dies leaves them, and their exit codes say which it was. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { start } from "./program.ts";

for (
  const { what, signal, code, says } of [
    { what: "ends", signal: "SIGINT", code: 0, says: "The coordinator ended." },
    { what: "dies", signal: "SIGKILL", code: 1, says: "With --stay this worker joins again" },
  ] as const
) {
  Deno.test(`a worker whose coordinator ${what} exits with ${code}`, async () => {
    const folder = await Deno.makeTempDir(), running: Deno.ChildProcess[] = [];
    const launch = (...args: string[]) => {
      const child = start([...args, "--json"]);
      running.push(child);
      return { child, said: new Response(child.stderr).text(), events: objects(child.stdout) };
    };
    try {
      const up = launch("up", "--port", "0", "--state", join(folder, "state"));
      const { invite } = (await up.events.next()).value as { invite: string };
      const key = join(folder, "a.key");
      const worker = launch("join", invite, "--device", "reference", "--name", "a", "--key", key);
      for await (const { event } of worker.events) if (event === "joined") up.child.kill(signal);
      assertEquals((await worker.child.status).code, code);
      assertStringIncludes(await worker.said, says);
      for await (const _ of up.events);
      await Promise.all([up.said, up.child.status]);
    } finally {
      for (const child of running) kill(child);
      await Deno.remove(folder, { recursive: true });
    }
  });
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended by itself
  }
}
