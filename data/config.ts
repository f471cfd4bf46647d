/**
 * What `data prepare` is told: TOML for people, one schema, errors that say where.
 *
 * @module
 */
import { parse as parseToml } from "@std/toml";
import { z } from "zod";
import { DataError } from "./errors.ts";
import { checkLanguages } from "./language.ts";
import { limits } from "./limits.ts";

const path = z.string().min(1);
const share = z.number().min(0).max(1);
const languages = z.array(z.string().min(1)).min(1);

/** Documents of one kind, with their share of what training sees. */
export const Domain = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,31}$/, "takes a-z, 0-9, '_' and '-', at most 32"),
  /** Files, folders and globs (`*`, `**`, `?`, `{a,b}`): .jsonl and .ndjson, .parquet, everything else as text. */
  files: z.array(path).min(1),
  /** Where the text is: the field of a JSON object, the column of a Parquet file. */
  text: z.string().min(1).default("text"),
  /** How a text file is cut into documents: not at all, at blank lines, at every line. */
  documents: z.enum(["file", "paragraph", "line"]).default("file"),
  /** What to do with a line that is no JSON object with that field: name it and stop, or count it as dropped. */
  broken: z.enum(["stop", "drop"]).default("stop"),
  /** Share of the tokens that training sees; given for every domain or for none (then in proportion to their sizes). */
  proportion: z.number().gt(0).max(1).optional(),
  /** Languages of this domain, instead of those of the whole. */
  languages: languages.optional(),
});
/** See {@linkcode Domain}. */
export type Domain = z.infer<typeof Domain>;

const Quality = z.strictObject({
  /** Characters of a document. */
  shortest: z.int().min(1).default(20),
  longest: z.int().min(1).max(limits.documentBytes).default(limits.documentBytes),
  /** Least share of letters (of any script, marks included) among the characters that are not white space. */
  letters: share.default(0.5),
  /** Largest share of digits among them. */
  digits: share.default(0.3),
  /** Largest share of U+FFFD, which stands where a text was decoded wrongly. */
  replaced: share.default(0.001),
  /** Largest share of the characters that stand in lines that were there before. */
  repeated_lines: share.default(0.3),
  /** Largest share of the characters that the most frequent piece of ten characters may cover, in texts of 200 and more. */
  repeated_piece: share.default(0.2),
  /** Letters of a word on average, for scripts that put spaces between words; texts of 20 words and more. */
  shortest_words: z.number().min(0).default(2),
  longest_words: z.number().min(0).default(15),
});

const Toxic = z.strictObject({
  /** UTF-8 files, one word or phrase a line; '#' begins a comment. Whole words, but for Chinese and Japanese any place. */
  lists: z.array(path).default([]),
  /** Different entries that a document may hold and stay. */
  most: z.int().min(0).default(0),
});

const Deduplicate = z.strictObject({
  exact: z.boolean().default(true),
  /**
   * Jaccard similarity, of the sets of pieces of five characters, from which the later of two documents leaves; false: none.
   * The default finds every pair that has 0.8 by the common coarser counts (pieces of words) too.
   */
  near: z.union([z.literal(false), z.number().min(0.5).max(1)]).default(0.75),
});

/** The whole configuration. */
export const PrepareConfig = z.strictObject({
  /** The folder that is made. */
  output: path,
  /** "bytes" or the path of a tokenizer.json. */
  tokenizer: path,
  /** Keep only documents in these languages (ISO 639-1); without it, all. */
  languages: languages.optional(),
  /** Share of the documents of each domain that is kept for validation and never trained on. */
  validation: z.number().gt(0).max(0.5).default(0.01),
  /** Seed of the split and of the order of documents. */
  seed: z.int().min(0).max(0xffff_ffff).default(1),
  /** Tokens of a shard, at most. */
  shard_tokens: z.int().min(64).max(1 << 28).default(1 << 24),
  quality: Quality.prefault({}),
  toxic: Toxic.prefault({}),
  deduplicate: Deduplicate.prefault({}),
  domain: z.array(Domain).min(1).max(limits.domains),
});
/** See {@linkcode PrepareConfig}. */
export type PrepareConfig = z.infer<typeof PrepareConfig>;

/** Largest distance of the sum of the proportions from 1. */
const roundingOfProportions = 1e-3;

/**
 * Checks a configuration and fills in defaults. `resolve` turns its paths, which are relative to the file's folder, into
 * absolute ones.
 *
 * @throws {DataError} with everything that is wrong, each with its place.
 */
export function readConfig(value: unknown, resolve: (path: string) => string): PrepareConfig {
  const read = PrepareConfig.safeParse(value);
  if (!read.success) throw new DataError(explain(read.error.issues));
  const config = read.data;
  checkDomains(config.domain);
  for (const list of [config.languages, ...config.domain.map((domain) => domain.languages)]) {
    if (list !== undefined) checkLanguages(list);
  }
  return {
    ...config,
    output: resolve(config.output),
    tokenizer: config.tokenizer === "bytes" ? "bytes" : resolve(config.tokenizer),
    toxic: { ...config.toxic, lists: config.toxic.lists.map(resolve) },
    domain: config.domain.map((domain) => ({ ...domain, files: domain.files.map(resolve) })),
  };
}

/** Reads the TOML of a configuration. @throws {DataError} */
export function parseConfig(text: string, resolve: (path: string) => string): PrepareConfig {
  let toml: Record<string, unknown>;
  try {
    toml = parseToml(text);
  } catch (error) {
    throw new DataError(`The configuration is not valid TOML: ${(error as Error).message}`);
  }
  return readConfig(toml, resolve);
}

function checkDomains(domains: readonly Domain[]): void {
  const names = domains.map((domain) => domain.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new DataError(`Two domains are called "${twice}". Give each a name of its own.`);
  }
  const given = domains.filter((domain) => domain.proportion !== undefined);
  if (given.length === 0) return;
  const without = domains.find((domain) => domain.proportion === undefined);
  if (without !== undefined) {
    throw new DataError(
      `The domain "${without.name}" has no proportion, but others have. Give one to every domain, or to none.`,
    );
  }
  const sum = given.reduce((total, domain) => total + domain.proportion!, 0);
  if (Math.abs(sum - 1) > roundingOfProportions) {
    throw new DataError(
      `The proportions of the domains add up to ${Number(sum.toFixed(4))} (${
        domains.map((domain) => `${domain.name} ${domain.proportion}`).join(", ")
      }); they are shares of one whole and must add up to 1.`,
    );
  }
}

const known: Record<string, readonly string[]> = {
  "": Object.keys(PrepareConfig.shape),
  domain: Object.keys(Domain.shape),
  quality: Object.keys(Quality.shape),
  toxic: Object.keys(Toxic.shape),
  deduplicate: Object.keys(Deduplicate.shape),
};

/** One sentence for everything that the schema refused: its place and what was meant. */
function explain(issues: readonly z.core.$ZodIssue[]): string {
  const lines = issues.map((issue) => {
    const [section = "", ...rest] = issue.path.map(String);
    const inDomain = section === "domain" && rest.length > 0;
    const at = inDomain
      ? `[[domain]] ${Number(rest[0]) + 1}`
      : section in known && section
      ? `[${section}]`
      : "";
    const key = inDomain ? rest.slice(1).join(".") : at ? rest.join(".") : [section, ...rest].join(".");
    const place = [at, key].filter(Boolean).join(": ");
    if (issue.code === "unrecognized_keys") {
      const names = known[inDomain ? "domain" : section in known ? section : ""];
      return `${place ? `${place}: ` : ""}there is no key ` +
        `${issue.keys.map((key) => `"${key}"`).join(", ")}; known: ${names.join(", ")}.`;
    }
    return `${place ? `${place}: ` : ""}${issue.message.charAt(0).toLowerCase()}${issue.message.slice(1)}.`;
  });
  return `The data cannot be prepared as configured. ${lines.join(" ")}`;
}
