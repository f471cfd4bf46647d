import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { readKnown, writeKnown } from "../../worker/deno_known_files.ts";

Deno.test("what was measured is kept whole, each kind for itself, and what cannot be kept or read is measured again", async () => {
  const folder = await Deno.makeTempDir(), cache = join(folder, "new");
  try {
    assertEquals(await readKnown(cache, "tuned"), undefined);
    await writeKnown(cache, "tuned", "one");
    await writeKnown(cache, "tuned", "two");
    await writeKnown(cache, "measured", "three");
    assertEquals([await readKnown(cache, "tuned"), await readKnown(cache, "measured")], ["two", "three"]);
    assertEquals([...Deno.readDirSync(cache)].map(({ name }) => name).sort(), [
      "speeds.json",
      "tunings.json",
    ]);
    // Where there can be no folder nothing is kept, and nothing goes wrong.
    const file = join(cache, "tunings.json");
    await writeKnown(file, "tuned", "four");
    assertEquals(await readKnown(file, "tuned"), undefined);
    await writeKnown(undefined, "tuned", "five");
    assertEquals(await readKnown(undefined, "tuned"), undefined);
    await Deno.truncate(file, 2 << 20);
    assertEquals(await readKnown(cache, "tuned"), undefined, "too long to be ours");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
