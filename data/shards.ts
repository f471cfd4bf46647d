/**
 * Prepared text: a folder of token shards with an index. A shard is nothing but ids, little-endian, of 2 or 4 bytes each;
 * the index says which domain and side they belong to, how many they are, and their checksums.
 *
 * @module
 */
import { z } from "zod";
import { type FileReader, joinPath, readText } from "../model/files.ts";
import { ShardsError } from "./errors.ts";
import { checksum, checksumOfFile } from "./hash.ts";
import { limits } from "./limits.ts";

const count = z.int().min(0);
/** A file's name: the index leads nowhere else. */
const fileName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,127}$/);

const Shard = z.strictObject({
  file: fileName,
  tokens: z.int().min(1).max(1 << 28),
  /** xxHash64 of the file. */
  checksum: z.string().regex(/^[0-9a-f]{16}$/),
});

const Side = z.strictObject({
  documents: count,
  tokens: count,
  /** Bytes of UTF-8 of the documents. */
  bytes: count,
  shards: z.array(Shard),
});

/** The file `index.json`. */
export const ShardIndex = z.strictObject({
  format: z.literal("volary-shards"),
  version: z.literal(1),
  /** What was prepared: a checksum of the configuration and of every input file. */
  prepared: z.string(),
  tokenizer: z.strictObject({
    /** See {@linkcode fingerprintOf}. */
    fingerprint: z.string(),
    vocab_size: z.int().min(1),
  }),
  dtype: z.enum(["u16", "u32"]),
  domains: z.array(z.strictObject({
    name: z.string(),
    proportion: z.number().gt(0).max(1),
    train: Side,
    validation: Side,
  })).min(1).max(limits.domains),
});
/** See {@linkcode ShardIndex}. */
export type ShardIndex = z.infer<typeof ShardIndex>;
/** One side (training or validation) of a domain. */
export type Side = z.infer<typeof Side>;

/** Which side of the split. */
export type SideName = "train" | "validation";

/** Name of the file that lists the shards of a folder. */
export const indexFile = "index.json";

/** What decides a tokenizer's ids: equal for two files that differ only in spaces, order of keys or templates. */
export function fingerprintOf(tokenizerJson: Uint8Array): string {
  const json = JSON.parse(new TextDecoder().decode(tokenizerJson)) as Record<string, unknown>;
  const parts = ["model", "added_tokens", "normalizer", "pre_tokenizer"].map((key) => json[key] ?? null);
  return checksum(JSON.stringify(sorted(parts)));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0).map(([k, v]) => [k, sorted(v)]),
  );
}

/** Ids of one side of one domain, in one run over its shards. */
class TokenRun {
  readonly tokens: number;
  readonly #starts: number[] = [];

  constructor(
    readonly files: FileReader,
    readonly folder: string,
    readonly side: Side,
    readonly width: 2 | 4,
  ) {
    let start = 0;
    for (const shard of side.shards) {
      this.#starts.push(start);
      start += shard.tokens;
    }
    this.tokens = start;
  }

  /** Ids `start`..`end`, `end` not included. */
  async read(start: number, end: number): Promise<Uint32Array> {
    if (start < 0 || end > this.tokens || start > end) {
      throw new RangeError(`Tokens ${start} to ${end} of ${this.tokens}`);
    }
    const ids = new Uint32Array(end - start), { shards } = this.side;
    for (let s = this.#shardOf(start), at = start; at < end; s++) {
      const from = at - this.#starts[s], to = Math.min(shards[s].tokens, end - this.#starts[s]);
      const path = joinPath(this.folder, shards[s].file);
      const bytes = await this.files.read(path, from * this.width, to * this.width);
      ids.set(this.width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer), at - start);
      at += to - from;
    }
    return ids;
  }

  #shardOf(token: number): number {
    let low = 0, high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle] <= token) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** A folder of shards. */
export class Shards {
  private constructor(readonly files: FileReader, readonly folder: string, readonly index: ShardIndex) {}

  /**
   * Reads the index and looks at the size of every shard; see also {@linkcode Shards.verify}.
   *
   * @throws {ShardsError} if there is no index, it cannot be understood, or a shard is missing or has another size.
   */
  static async open(files: FileReader, folder: string): Promise<Shards> {
    const path = joinPath(folder, indexFile);
    let text: string | undefined;
    try {
      text = await readText(files, path);
    } catch (error) {
      throw new ShardsError(`${path} cannot be read: ${(error as Error).message}`);
    }
    if (text === undefined) {
      throw new ShardsError(
        `${folder} holds no prepared data (there is no ${indexFile}). Make it with: volary data prepare CONFIG.toml`,
      );
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      throw new ShardsError(
        `${path} is not readable JSON: ${(error as Error).message}. Prepare the data again.`,
      );
    }
    const read = ShardIndex.safeParse(json);
    if (!read.success) {
      const [issue] = read.error.issues;
      throw new ShardsError(
        `${path} is no index of shards of this version: ${issue.path.join(".")}: ${issue.message}. ` +
          "Prepare the data again.",
      );
    }
    const shards = new Shards(files, folder, read.data);
    for (const { file, tokens } of shards.#all()) {
      const size = await files.size(joinPath(folder, file)), expected = tokens * shards.width;
      if (size !== expected) {
        throw new ShardsError(
          `${joinPath(folder, file)} ${
            size === undefined ? "is missing" : `has ${size} bytes instead of ${expected}`
          }. The folder was not copied whole; copy it again, or prepare the data again.`,
        );
      }
    }
    return shards;
  }

  /** Bytes of an id. */
  get width(): 2 | 4 {
    return this.index.dtype === "u16" ? 2 : 4;
  }

  /** The ids of one side of a domain. */
  run(domain: number, side: SideName): TokenRun {
    return new TokenRun(this.files, this.folder, this.index.domains[domain][side], this.width);
  }

  /** Reads every shard and compares checksums. @throws {ShardsError} naming the first that is damaged. */
  async verify(pause: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    for (const shard of this.#all()) {
      const path = joinPath(this.folder, shard.file);
      if (await checksumOfFile(this.files, path, shard.tokens * this.width, pause) === shard.checksum) {
        continue;
      }
      throw new ShardsError(
        `${path} is damaged: its checksum is not the one in ${indexFile}. Copy it again, or prepare the data again.`,
      );
    }
  }

  /** @throws {ShardsError} unless the shards were made with this tokenizer.json. */
  checkTokenizer(tokenizerJson: Uint8Array, name: string): void {
    if (fingerprintOf(tokenizerJson) === this.index.tokenizer.fingerprint) return;
    throw new ShardsError(
      `The shards in ${this.folder} were made with another tokenizer than ${name}: the same ids would mean other text. Use ` +
        `the tokenizer.json that lies beside the shards, or prepare the data again with this one.`,
    );
  }

  *#all() {
    for (const { train, validation } of this.index.domains) yield* [...train.shards, ...validation.shards];
  }
}
