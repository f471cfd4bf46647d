/** A disk that is really full: 3 MB of memory, mounted for the test where its user may. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { readEvents } from "../../coordinator/report/report_files.ts";
import { openDevice } from "../../kernels/mod.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { smallRecipe, smallText } from "../coordinator/small_run.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { volary } from "../cli/program.ts";

const MEGABYTE = 1 << 20;

async function command(name: string, ...args: string[]): Promise<string | undefined> {
  const { success, stderr } = await new Deno.Command(name, { args }).output();
  return success ? undefined : new TextDecoder().decode(stderr).trim();
}

/** Whether a file system may be mounted here, or why not. */
async function mountable(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return "only Linux mounts memory as a disk";
  const folder = await Deno.makeTempDir();
  try {
    const refused = await command("mount", "-t", "tmpfs", "-o", "size=64k", "none", folder);
    return refused ?? await command("umount", folder);
  } finally {
    await Deno.remove(folder);
  }
}

const refused = await mountable();
if (refused !== undefined) console.error(`A full disk is not tested: ${refused}`);

/** A disk of 3 MB, gone afterwards. */
async function onDisk(work: (disk: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir(), disk = join(folder, "disk");
  await Deno.mkdir(disk);
  try {
    assertEquals(await command("mount", "-t", "tmpfs", "-o", "size=3m", "none", disk), undefined);
    try {
      await work(disk);
    } finally {
      assertEquals(await command("umount", "--lazy", disk), undefined);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Fills a disk up to so many bytes, before anything else happens. */
function fill(disk: string, free: number): void {
  using file = Deno.openSync(join(disk, "filler"), { write: true, create: true });
  const piece = new Uint8Array(4_096);
  try {
    for (let written = 0; written < 3 * MEGABYTE - free; written += piece.length) file.writeSync(piece);
  } catch (error) {
    assert((error as { code?: string }).code === "ENOSPC", String(error));
  }
}

/** Files of a folder and of those in it, sorted. */
async function filesOf(folder: string, below = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(folder, below))) {
    const path = join(below, name);
    found.push(...isDirectory ? await filesOf(folder, path) : [path]);
  }
  return found.sort();
}

Deno.test("shards that do not fit: said, nothing under their name, and the same shards once there is room", {
  ignore: refused !== undefined,
}, async () => {
  await onDisk(async (disk) => {
    const folder = await Deno.makeTempDir();
    try {
      const lines = Array.from(
        { length: 3_000 },
        (_, i) => `The entry ${i} speaks of ${i * 7919 % 10_007}.`,
      );
      await Deno.writeTextFile(join(folder, "text.txt"), lines.join("\n"));
      const prepare = async (output: string) => {
        const config = join(folder, "data.toml");
        await Deno.writeTextFile(
          config,
          `output = "${output}"\ntokenizer = "bytes"\n[deduplicate]\nnear = false\n` +
            `[quality]\nshortest_words = 0\ndigits = 1\n` +
            `[[domain]]\nname = "d"\nfiles = ["text.txt"]\ndocuments = "line"\nproportion = 1\n`,
        );
        return await volary("data", "prepare", config);
      };
      fill(disk, 400_000);
      const failed = await prepare(join(disk, "shards"));
      assertEquals(failed.code, 1, failed.stderr);
      assertStringIncludes(failed.stderr, "The disk is full: ");
      assertStringIncludes(failed.stderr, disk);
      assert(!failed.stderr.includes("    at "), failed.stderr);
      const left = await filesOf(disk);
      assert(left.every((path) => !path.startsWith("shards/")), `${left}`);

      await Deno.remove(join(disk, "filler"));
      const done = await prepare(join(disk, "shards"));
      assertEquals(done.code, 0, done.stderr);
      const elsewhere = await prepare(join(folder, "shards"));
      assertEquals(elsewhere.code, 0, elsewhere.stderr);
      const names = await filesOf(join(disk, "shards"));
      assertEquals(names, await filesOf(join(folder, "shards")));
      for (const name of names.filter((name) => name.endsWith(".bin"))) {
        assertEquals(
          await Deno.readFile(join(disk, "shards", name)),
          await Deno.readFile(join(folder, "shards", name)),
        );
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});

Deno.test("a checkpoint that does not fit: the run stops with the one before it and goes on from there", {
  ignore: refused !== undefined,
}, async () => {
  await onDisk(async (disk) => {
    const text = join(disk, "a.txt"), { storage } = denoRuntime();
    await Deno.writeTextFile(text, smallText);
    const mesh = await MeshInMemory.start({
      workers: 2,
      device: () => openDevice({ kind: "reference" }),
      disk: storage,
    });
    const run = (resume: boolean, told: Parameters<typeof mesh.run>[2] = () => {}) =>
      mesh.run(smallRecipe({ stages: 2 }), resume, told, disk);
    try {
      // Step 10 is saved; then the disk fills, and step 20 cannot be.
      const outcome = await run(false, (event) => {
        if (event.event === "checkpoint") fill(disk, 0);
      });
      assert(outcome.event === "stopped", JSON.stringify(outcome));
      assertStringIncludes(outcome.reason, "The disk is full: ");
      assertStringIncludes(outcome.path!, "step-000010");
      const checkpoints = (await filesOf(disk)).filter((path) => path.includes("step-"));
      assert(checkpoints.every((path) => path.includes("step-000010")), `${checkpoints}`);
      await openCheckpoint(storage, outcome.path!);
      assertEquals(mesh.events.at(-1)!.event, "unrecorded");

      await Deno.remove(join(disk, "filler"));
      const resumed = await run(true);
      assert(resumed.event === "done", JSON.stringify(resumed));
      assertStringIncludes(resumed.path, "step-000020");
      // What the full disk cut off of the run's lines was written over.
      const steps = (await readEvents(storage, join(disk, "runs", "small"))).filter(({ event }) =>
        event === "step"
      );
      assertEquals(steps.at(-1), mesh.events.findLast(({ event }) => event === "step"));
    } finally {
      await mesh.close();
    }
  });
});
