/** Model folders on the disk for tests of verbs, and verbs inside the test: quicker than processes. */
import { join } from "@std/path";
import type { Verb } from "../../cli/verb.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { byteTokenizerFiles } from "../../model/text/byte_tokenizer.ts";
import type { ModelConfig } from "../../model/config.ts";
import { writeModel, type WriteOptions } from "../../model/checkpoint/interchange.ts";
import { memorySource, randomWeights, smallConfig } from "../model/models.ts";

export const storage = denoRuntime().storage;

/** Writes a small model that reads bytes. */
export async function writeSmall(
  folder: string,
  json: Record<string, unknown> = {},
  options: WriteOptions = {},
): Promise<ModelConfig> {
  const config = smallConfig({ vocab_size: 259, max_position_embeddings: 64, ...json });
  const extras = new Map([...byteTokenizerFiles(), ...options.extras ?? []]);
  await writeModel(storage, folder, memorySource(config, randomWeights(config)), { ...options, extras });
  return config;
}

/** What a verb printed. */
export interface Said {
  readonly code: number;
  readonly lines: Record<string, unknown>[];
  readonly text: string;
}

/** Runs a verb, one at a time, and keeps what it prints. Errors are thrown as they are. */
export async function run(verb: Verb, ...args: string[]): Promise<Said> {
  const { log, error } = console, lines: Record<string, unknown>[] = [], text: string[] = [];
  console.log = (line: string) => void lines.push(JSON.parse(line));
  console.error = (line: string) => void text.push(line);
  try {
    return { code: await verb.run(args), lines, text: text.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** A folder that is gone after the test. */
export async function inFolder(test: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test((name) => join(folder, name));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Names in a folder, sorted. */
export async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

/** A text on which verbs measure small models. */
export const text = "A model that grows keeps what it knows; 长大的模型记得它学过的。".repeat(4);

/** Flags for measuring on a text that was written to `text.txt`. */
export function on(path: (name: string) => string): string[] {
  return ["--text", path("text.txt"), "--device", "reference", "--json"];
}
