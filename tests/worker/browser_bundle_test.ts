/** The worker's core runs in a browser: its bundle names neither Deno nor Node. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";

/** The program of `entry` with everything it imports, as a browser would load it. */
async function bundle(entry: string): Promise<string> {
  const path = fromFileUrl(new URL(`../../worker/${entry}`, import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform", "browser", path],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  assertEquals(code, 0, text.decode(stderr));
  return text.decode(stdout);
}

for (const entry of ["browser.ts", "compute_thread.ts"]) {
  Deno.test(`the bundle of worker/${entry} names neither Deno nor Node`, async () => {
    const program = await bundle(entry);
    assert(program.length > 10_000, "the bundle holds the program");
    const found = program.split("\n").filter((line) => /\bDeno\b|node:/.test(line)).slice(0, 5);
    assertEquals(found, []);
  });
}
