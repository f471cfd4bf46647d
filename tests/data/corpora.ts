/** Texts with planted duplicates, and a folder of the disk to prepare them in. */
import { fromFileUrl, join } from "@std/path";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { readConfig } from "../../data/config.ts";
import { prepare, type Prepared, type PrepareOptions } from "../../data/prepare.ts";
import type { Shards, SideName } from "../../data/shards.ts";
import { randomStream } from "../../model/random.ts";

export const files = denoRuntime().storage;

/** Runs `test` with a folder that is removed afterwards. */
export async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "volary-data-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const pages = ["README.md", ".github/ARCHITECTURE.md"]
  .map((path) => Deno.readTextFileSync(fromFileUrl(new URL(`../../${path}`, import.meta.url))));
/** A thousand English words. */
const words = [...new Set(pages.join(" ").toLowerCase().match(/[a-z]{2,}/g)!)];

/** A document of `count` words drawn from the seed. */
export function randomDocument(seed: number, count: number): string[] {
  const stream = randomStream(seed, "document");
  return Array.from({ length: count }, () => words[stream.integer(words.length)]);
}

/** Jaccard similarity of the sets of pieces of `n` words. */
export function wordJaccard(a: readonly string[], b: readonly string[], n: number): number {
  const pieces = (words: readonly string[]) =>
    new Set(
      Array.from({ length: Math.max(1, words.length - n + 1) }, (_, i) => words.slice(i, i + n).join(" ")),
    );
  const [x, y] = [pieces(a), pieces(b)], both = x.intersection(y).size;
  return both / (x.size + y.size - both);
}

/** The document with as many words replaced as it takes for its similarity (pieces of `n` words) to come near `target`. */
export function nearCopy(document: readonly string[], seed: number, n: number, target: number): string[] {
  const stream = randomStream(seed, "copy"), copy = [...document];
  for (;;) {
    const next = [...copy];
    next[stream.integer(next.length)] = words[stream.integer(words.length)];
    if (wordJaccard(document, next, n) < target) return copy;
    copy.splice(0, copy.length, ...next);
  }
}

/** Prepares a configuration whose paths are relative to `folder`. */
export function prepareIn(
  folder: string,
  config: Record<string, unknown>,
  options: Partial<PrepareOptions> = {},
): Promise<Prepared> {
  const read = readConfig({ output: "out", tokenizer: "bytes", ...config }, (path) => join(folder, path));
  return prepare(read, { files, ...options });
}

/** The documents of one side, of shards made with the tokenizer of bytes. */
export async function documentsIn(shards: Shards, domain: number, side: SideName): Promise<string[]> {
  const run = shards.run(domain, side), ids = await run.read(0, run.tokens);
  const documents: string[] = [];
  for (let begin = 0; begin < ids.length;) {
    const end = ids.indexOf(257, begin); // <|eos|>
    documents.push(new TextDecoder().decode(Uint8Array.from(ids.subarray(begin + 1, end))));
    begin = end + 1;
  }
  return documents;
}

/** Every file of a folder: its name and its bytes. */
export async function contents(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of await files.list(folder)) {
    const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(join(folder, name)));
    found.set(name, new Uint8Array(digest).toHex());
  }
  return found;
}
