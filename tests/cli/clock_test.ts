/** A machine whose clock is an hour off: `join` and `doctor` say so, and what to do. Needs Debian's faketime. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { start } from "./program.ts";

async function faketime(): Promise<boolean> {
  try {
    return (await new Deno.Command("faketime", { args: ["-f", "+1h", "true"] }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test({
  name: "a clock that is an hour off is named by join and by doctor, each way",
  ignore: !await faketime(),
  async fn() {
    const folder = await Deno.makeTempDir();
    const up = start(["up", "--port", "0", "--state", folder, "--json"]),
      said = new Response(up.stderr).text();
    try {
      const events = objects(up.stdout), invite = String((await events.next()).value!.invite);
      for (const off of ["+1h", "-1h"]) {
        for (const verb of ["join", "doctor"]) {
          const args = verb === "join" ? ["--device", "reference"] : [];
          const { code, text } = await later(off, [
            verb,
            invite,
            "--key",
            join(folder, "worker.key"),
            ...args,
          ]);
          assertEquals(code, 1, text);
          assertMatch(
            text,
            /they are (59|60) minutes apart.*Set the one that is wrong.*timedatectl set-ntp true/s,
          );
          if (verb === "join") assert(!text.trim().includes("\n"), text);
        }
      }
    } finally {
      up.kill("SIGKILL");
      await Promise.all([up.status, up.stdout.cancel().catch(() => {}), said]);
      await Deno.remove(folder, { recursive: true });
    }
  },
});

/** Runs the program at another time. */
async function later(off: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  const child = start(args, undefined, ["faketime", "-f", off]);
  const { code, stderr } = await child.output();
  return { code, text: new TextDecoder().decode(stderr) };
}
