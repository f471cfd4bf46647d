/** What README.md tells people to type exists. */
import { assert, assertEquals } from "@std/assert";

const read = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));

Deno.test("every task that the README names is in deno.json", async () => {
  const { tasks } = JSON.parse(await read("deno.json")) as { tasks: Record<string, string> };
  const named = new Set(
    [...(await read("README.md")).matchAll(/\btask ([a-z][a-z:-]*)/g)].map((match) => match[1]),
  );
  assert(named.has("demo") && named.has("test"));
  assertEquals([...named].filter((name) => !(name in tasks)), []);
});

Deno.test("the README's verbs are the program's", async () => {
  const table = [...(await read("README.md")).matchAll(/^\| `([a-z]+)[^`]*` +\|/gm)].map((match) => match[1]);
  const { verbs } = await import("../../cli/verbs.ts");
  assertEquals(table.toSorted(), Object.keys(verbs).toSorted());
});

Deno.test("no task and no document allows everything", async () => {
  for (const file of ["deno.json", "README.md", ".ci/run", ".github/CONTRIBUTING.md"]) {
    assert(!/(^|[ "])(-A|--allow-all)([ "]|$)/m.test(await read(file)), file);
  }
});
