/** Files and benches that the documents name exist under those names. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

const root = fromFileUrl(new URL("../../", import.meta.url));

/** Every file and folder of the repository, by its path; what runs and tools leave does not count. */
async function paths(folder = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(root, folder))) {
    if (folder === "" && [".git", "runs", "node_modules"].includes(name)) continue;
    const path = folder === "" ? name : `${folder}/${name}`;
    found.push(path);
    if (isDirectory) found.push(...await paths(path));
  }
  return found;
}

const all = await paths(), existing = new Set(all);
const documents = all.filter((path) => /^(README\.md|(\.github|docs)\/.*\.md|tests\/.*\.md)$/.test(path));

/** What stands in backquotes in a document, outside of blocks of code, and whole blocks with them. */
async function quoted(path: string): Promise<{ words: string[]; text: string }> {
  const text = await Deno.readTextFile(join(root, path));
  const prose = text.replace(/^```.*?^```/gms, "");
  return { words: [...prose.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word), text };
}

/** Written like a file that is ours, with its folders or without. Files that programs make (JSON, say) are not meant. */
const file = /^\.?[\w-]+(\/[\w.-]+)*\.(ts|wgsl|md|toml|sh|py|svg)$/;
/** Written like a folder: `kernels/bf16/`, or with a part alone, `link/`. */
const folder = /^\.?[\w-]+(\/[\w-]+)*\/$/;

/** Whether something of that name is there: with folders from the root on; a name alone anywhere. */
function exists(word: string): boolean {
  const path = word.replace(/\/$/, "");
  return existing.has(path) || (!path.includes("/") && all.some((each) => each.endsWith(`/${path}`)));
}

Deno.test("files and folders that documents name exist", async () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const document of documents) {
    for (const word of (await quoted(document)).words) {
      if (!file.test(word) && !folder.test(word)) continue;
      seen++;
      if (!exists(word)) wrong.push(`${document} names ${word}`);
    }
  }
  assertEquals(wrong, []);
  assert(seen > 80, "the check sees what it looks for");
  assert(exists("mesh/link/link.ts") && exists("link.ts") && exists("link/"));
  assert(!exists("link/link.ts") && !exists("mesh/linked.ts"));
});

Deno.test("benches that documents name exist", async () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const document of documents) {
    for (const [, name] of (await quoted(document)).text.matchAll(/\btask bench ([a-z][a-z0-9_]*)/g)) {
      seen++;
      if (!all.some((path) => path.startsWith("bench/") && path.endsWith(`/${name}.ts`))) {
        wrong.push(`${document} names ${name}`);
      }
    }
  }
  assertEquals(wrong, []);
  assert(seen > 10, "the check sees what it looks for");
});

Deno.test("links between documents lead somewhere", async () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const document of documents) {
    for (const [, target] of (await quoted(document)).text.matchAll(/\]\(([^):#\s]+)(?:#[^)]*)?\)/g)) {
      seen++;
      const path = join(root, document, "..", target).slice(root.length).replace(/\/$/, "");
      if (!existing.has(path)) wrong.push(`${document} leads to ${target}`);
    }
  }
  assertEquals(wrong, []);
  assert(seen > 10, "the check sees what it looks for");
});
