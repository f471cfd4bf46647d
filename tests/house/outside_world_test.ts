/** Time, chance and the outside world are handed in: only the files that make a Runtime may name them. */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

const root = fromFileUrl(new URL("../../", import.meta.url));

/** Files that make a Runtime or are the entry of a process or thread, with what they may use. */
const makers = new Set([
  "mesh/deno_runtime.ts",
  "mesh/identity/deno_key_file.ts",
  "worker/deno.ts",
  "worker/deno_known_files.ts",
  "worker/browser.ts",
  "worker/compute_thread.ts",
  "coordinator/admission/server.ts",
]);

const outside =
  /\b(Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|setInterval|Deno\.|fetch\()/;

async function* lines(folder: string): AsyncGenerator<{ file: string; number: number; line: string }> {
  for await (const entry of Deno.readDir(join(root, folder))) {
    const file = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* lines(file);
    else if (file.endsWith(".ts")) {
      const text = await Deno.readTextFile(join(root, file));
      let number = 0;
      for (const line of text.split("\n")) yield { file, number: ++number, line };
    }
  }
}

Deno.test("mesh, coordinator and worker take time, chance and the world from a Runtime", async () => {
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const folder of ["mesh", "coordinator", "worker"]) {
    for await (const { file, number, line } of lines(folder)) {
      const code = line.replace(/^\s*(\*|\/\/|\/\*).*$/, "").replace(/"[^"]*"|`[^`]*`/g, '""');
      if (!outside.test(code)) continue;
      if (makers.has(file)) used.add(file);
      else wrong.push(`${file}:${number} ${line.trim()}`);
    }
  }
  assertEquals(wrong, []);
  assertEquals([...makers].filter((file) => !used.has(file)), [], "files of the list that need it no more");
});
