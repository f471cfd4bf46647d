/** Benches are found in their folders, each tells what it measures, and names are unique. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { toFileUrl } from "@std/path";
import { catalog, listed } from "../../../bench/harness/catalog.ts";

const benches = await catalog(new URL("../../../bench/", import.meta.url));

Deno.test("every bench has a title of one line and says which question it answers and what is wanted", () => {
  assert(benches.size > 20, "the check sees what it looks for");
  for (const [name, { title, about }] of benches) {
    assert(title.length <= 100, `${name}: its title has ${title.length} characters`);
    assert(/\?/.test(about), `${name} asks no question`);
    assert(/\b(wanted|conclusion)\b/i.test(about), `${name} does not say what is wanted`);
  }
});

Deno.test("the list has each bench once, below its folder and in columns", () => {
  const lines = listed(benches).split("\n");
  assertEquals(lines.filter((line) => line.startsWith("  ")).length, benches.size);
  for (const [name, { theme, title }] of benches) {
    const at = lines.findIndex((line) => line.startsWith(`  ${name} `) && line.endsWith(`  ${title}`));
    assertEquals(lines.slice(0, at).findLast((line) => line.endsWith("/")), `${theme}/`, name);
  }
  assertEquals(
    new Set([...benches.values()].map(({ title }) => lines.find((l) => l.endsWith(title))!.indexOf(title)))
      .size,
    1,
  );
});

Deno.test("two benches of one name are an error, a helper beside them is none", async () => {
  const root = await Deno.makeTempDir();
  try {
    for (const file of ["kernels/speed.ts", "kernels/helper.ts", "links/speed.ts"]) {
      await Deno.mkdir(`${root}/${file.split("/")[0]}`, { recursive: true });
      const title = file.includes("helper") ? "" : 'export const title = "how fast";\n';
      await Deno.writeTextFile(`${root}/${file}`, `/**\n * How fast is it?\n *\n * @module\n */\n${title}`);
    }
    const url = toFileUrl(`${root}/`);
    await assertRejects(() => catalog(url), Error, 'Two benches are named "speed", in kernels/ and links/');
    await Deno.remove(`${root}/links/speed.ts`);
    const { theme, title, about } = (await catalog(url)).get("speed")!;
    assertEquals([theme, title, about], ["kernels", "how fast", "How fast is it?"]);
    assertEquals((await catalog(url)).size, 1);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
