import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { readTunings, writeTunings } from "../../worker/deno_tuning_file.ts";

Deno.test("tunings are kept whole in a folder that is made; what cannot be read or written is left aside", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "cache", "volary", "tunings.json");
    assertEquals(await readTunings(file), undefined);
    await writeTunings(file, "one");
    await writeTunings(file, "two");
    assertEquals(await readTunings(file), "two");
    assertEquals([...Deno.readDirSync(join(folder, "cache", "volary"))].map(({ name }) => name), [
      "tunings.json",
    ]);
    await writeTunings(join(file, "below a file"), "three");
    assertEquals(await readTunings(join(file, "below a file")), undefined);
    await Deno.truncate(file, (1 << 20) + 1);
    assertEquals(await readTunings(file), undefined, "too long to be ours");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
