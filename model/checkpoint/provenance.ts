/**
 * Where a model comes from, kept in its folder as volary.json so that the next step can add to it; README.md says the same
 * to people.
 *
 * @module
 */
import { modelCard, type Provenance } from "./card.ts";
import { readJson } from "./checkpoint.ts";
import type { ModelConfig } from "../config.ts";
import { CheckpointError } from "../errors.ts";
import { type FileReader, joinPath, readText } from "../files.ts";

const fileName = "volary.json";
/** Where the card of an imported model is kept. */
export const originalCard = "README.source.md";
const version = 1;

/** A model's history, or undefined where its folder tells none. @throws {CheckpointError} if the file is damaged. */
export async function readProvenance(files: FileReader, folder: string): Promise<Provenance | undefined> {
  const path = joinPath(folder, fileName);
  if (await files.size(path) === undefined) return undefined;
  const json = await readJson(files, path);
  if (!isProvenance(json)) {
    throw new CheckpointError(
      `${path} is damaged or from another version. Remove it to go on without the model's history.`,
    );
  }
  const { version: _, ...provenance } = json;
  return provenance;
}

/** README.md and volary.json of a model's folder. */
export function provenanceFiles(
  config: ModelConfig,
  provenance: Provenance,
): Map<string, Uint8Array<ArrayBuffer>> {
  const text = (content: string) => new TextEncoder().encode(content);
  return new Map([
    ["README.md", text(modelCard(config, provenance))],
    [fileName, text(JSON.stringify({ version, ...provenance }, null, 2) + "\n")],
  ]);
}

/** Licences ask to be passed on. */
const licences = ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt"];

/** What a folder tells of its model's history, and its licence's files, for the folder of what is made from it. */
export async function historyFiles(
  files: FileReader,
  folder: string,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const found = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of [fileName, originalCard, ...licences]) {
    const path = joinPath(folder, name), size = await files.size(path);
    if (size !== undefined) found.set(name, await files.read(path, 0, size));
  }
  return found;
}

/** The licence that a README.md's front matter names, if it does. */
export async function statedLicense(files: FileReader, folder: string): Promise<string | undefined> {
  let card: string | undefined;
  try {
    card = await readText(files, joinPath(folder, "README.md"));
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return undefined; // no text that could name one
    throw error;
  }
  const front = card?.match(/^---\r?\n([\s\S]*?)\r?\n---/)?.[1];
  return front?.match(/^license:[ \t]*["']?([\w.+-]+)["']?[ \t]*\r?$/m)?.[1];
}

function isProvenance(json: unknown): json is Provenance & { version: number } {
  const text = (value: unknown) => typeof value === "string";
  const texts = (value: unknown) => Array.isArray(value) && value.every(text);
  const optional = (value: unknown, check: (value: unknown) => boolean) =>
    value === undefined || check(value);
  const record = json as Record<string, unknown> | null;
  return typeof record === "object" && record !== null && record.version === version && text(record.name) &&
    optional(record.source, text) && texts(record.steps) && texts(record.data) &&
    Array.isArray(record.losses) && record.losses.every((pair) => texts(pair) && pair.length === 2) &&
    optional(record.license, text) && optional(record.languages, texts);
}
