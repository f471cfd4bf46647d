/** Key files: made once, for their owner alone, refused where others may read them. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { holdKey, KeyInUseError, readOwn, writeOwn } from "../../mesh/identity/deno_key_file.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { KeyFileError } from "../../mesh/errors.ts";

const runtime = denoRuntime(), windows = Deno.build.os === "windows";

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
const mode = async (path: string) => (await Deno.stat(path)).mode! & 0o777;

Deno.test("a key is made once, for its owner alone, and read again", () =>
  inFolder(async (folder) => {
    const path = join(folder, "sub", "worker.key"), made = await holdKey(path, runtime);
    made.release();
    if (!windows) assertEquals(await mode(path), 0o600);
    const again = await holdKey(path, runtime), other = await holdKey(join(folder, "other.key"), runtime);
    assertEquals(again.identity.publicKey, made.identity.publicKey);
    assertNotEquals(other.identity.publicKey, made.identity.publicKey);
    await assertRejects(() => holdKey(path, runtime), KeyInUseError, "is in use");
    again.release();
    other.release();
  }));

Deno.test({
  name: "a key that others may read, that nobody may read, or that is none is refused with what to do",
  ignore: windows,
  fn: () =>
    inFolder(async (folder) => {
      const path = join(folder, "worker.key");
      (await holdKey(path, runtime)).release();
      const seed = (await Deno.readTextFile(path)).trim().split(" ")[1];
      const refused = async (says: string) => {
        const error = await assertRejects(() => holdKey(path, runtime), KeyFileError, says);
        assertStringIncludes(error.message, path);
        assert(!error.message.includes(seed));
      };
      for (const open of [0o644, 0o640, 0o604, 0o620]) {
        await Deno.chmod(path, open);
        await refused(`(mode ${open.toString(8)}): whoever can read it can pretend to be you`);
        await refused(`chmod 600 ${path}`);
        await assertRejects(() => readOwn(path), KeyFileError);
      }
      await Deno.chmod(path, 0o000);
      await refused("This user may not read");
      await Deno.chmod(path, 0o600);
      for (const text of ["nonsense", "volary-key-1 AAAA\n", `volary-key-1 ${seed}${seed}\n`]) {
        await Deno.writeTextFile(path, text);
        await refused("no key of Volary, or damaged");
      }
      await Deno.remove(path);
      await Deno.mkdir(path);
      await refused("folder");
    }),
});

Deno.test("a list is replaced as a whole, by a file for its owner alone", () =>
  inFolder(async (folder) => {
    const path = join(folder, "admissions.json");
    assertEquals(await readOwn(path), undefined);
    await writeOwn(path, "one");
    await Deno.writeTextFile(`${path}.partial`, "left by a crash");
    await writeOwn(path, "two");
    assertEquals(await readOwn(path), "two");
    if (!windows) assertEquals(await mode(path), 0o600);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["admissions.json"]);
  }));
