/**
 * Documents to shards: each domain's sides, in an order drawn from the seed, as ids that run on from document to document
 * and from shard to shard.
 *
 * @module
 */
import { permutation } from "../model/text/data_order.ts";
import { TokenizerError } from "../model/errors.ts";
import type { FileStore } from "../model/files.ts";
import { joinPath } from "../model/files.ts";
import { randomStream } from "../model/random.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { type DocumentStore, fate } from "./document_store.ts";
import { checksum } from "./hash.ts";
import { excerpt } from "./report.ts";
import type { Side, SideName } from "./shards.ts";

/** How far packing is; all that is needed to go on. */
export interface PackState {
  /** Sides that are finished or under way: training and validation of each domain in turn. */
  readonly sides: Side[];
  /** The side under way. */
  part: number;
  /** Of it: documents in shards, and tokens of the next one that are in shards too. */
  done: number;
  skip: number;
}

/** What packing needs. */
export interface PackOptions {
  readonly files: FileStore;
  /** Where shards go. */
  readonly folder: string;
  readonly store: DocumentStore;
  readonly domains: readonly string[];
  readonly tokenizer: Tokenizer;
  readonly seed: number;
  readonly shardTokens: number;
  /** Called after each shard, when `state` says what was done. */
  readonly checkpoint: () => Promise<void>;
  readonly pause: (done: number, all: number) => Promise<void>;
}

/** Largest share of unknown tokens: more than stray characters means that the tokenizer is not made for the text. */
const mostUnknown = 0.01;
/** Tokens after which the share is looked at. */
const fewestTokens = 4_096;
/** Documents that are decoded again, as libraries may lose characters: so many at first, then one of so many. */
const decodedFirst = 16, decodedEvery = 64;

/** Bytes of an id: two as long as every id fits. */
export function widthOf(tokenizer: Tokenizer): 2 | 4 {
  return tokenizer.vocabSize <= 1 << 16 ? 2 : 4;
}

/** Writes all shards from `state` on. @throws {TokenizerError} if the tokenizer does not cover the text. */
export async function packAll(options: PackOptions, state: PackState): Promise<void> {
  const sides: SideName[] = ["train", "validation"];
  let before = 0;
  for (const [d, domain] of options.domains.entries()) {
    for (const [s, side] of sides.entries()) {
      const part = 2 * d + s, documents = documentsOf(options.store, d, fate[side]);
      if (part >= state.part) await packSide(options, state, part, `${side}-${domain}`, documents, before);
      before += documents.length;
    }
  }
}

function documentsOf(store: DocumentStore, domain: number, wanted: number): Uint32Array {
  let count = 0;
  const is = (i: number) => store.domains[i] === domain && store.fates[i] === wanted;
  for (let i = 0; i < store.count; i++) if (is(i)) count++;
  const documents = new Uint32Array(count);
  for (let i = 0, at = 0; i < store.count; i++) if (is(i)) documents[at++] = i;
  return documents;
}

async function packSide(
  options: PackOptions,
  state: PackState,
  part: number,
  name: string,
  documents: Uint32Array,
  before: number,
): Promise<void> {
  const { files, folder, store, tokenizer, shardTokens } = options;
  const side = state.sides[part] ??= { documents: 0, tokens: 0, bytes: 0, shards: [] };
  const buffer = widthOf(tokenizer) === 2 ? new Uint16Array(shardTokens) : new Uint32Array(shardTokens);
  let fill = 0;
  const write = async () => {
    const file = `${name}-${String(side.shards.length).padStart(5, "0")}.tokens`,
      path = joinPath(folder, file);
    const bytes = new Uint8Array(buffer.buffer, 0, fill * buffer.BYTES_PER_ELEMENT);
    await files.write(path, 0, bytes);
    await files.sync(path);
    side.shards.push({ file, tokens: fill, checksum: checksum(bytes) });
    side.tokens += fill;
    fill = 0;
  };
  const order = documents.length === 0
    ? () => 0
    : permutation(documents.length, randomStream(options.seed, "documents", name).integer(2 ** 32), 0);
  const encode = encoder(tokenizer);
  for (let k = state.done; k < documents.length; k++) {
    if (k % 64 === 0) await options.pause(before + k, store.count);
    const document = documents[order(k)];
    const ids = encode(await store.text(document));
    for (let at = state.skip; at < ids.length;) {
      const some = Math.min(ids.length - at, shardTokens - fill);
      buffer.set(ids.subarray(at, at + some), fill);
      fill += some;
      at += some;
      if (fill < shardTokens) continue;
      await write();
      [state.done, state.skip] = [k, at];
      await options.checkpoint();
    }
    state.skip = 0;
  }
  if (fill > 0) await write();
  side.documents = documents.length;
  side.bytes = documents.reduce((sum, document) => sum + store.lengths[document], 0);
  [state.part, state.done, state.skip] = [part + 1, 0, 0];
  await options.checkpoint();
}

/** Ids of a document between the tokenizer's prefix and end; watches how much of the text is unknown or lost. */
function encoder(tokenizer: Tokenizer): (text: string) => Uint32Array {
  const { prefix, eos, unknown } = tokenizer;
  const visible = (text: string) => text.replace(/\s+/g, "").length;
  let documents = 0, all = 0, strange = 0, read = 0, lost = 0;
  const refuse = (text: string, what: string) =>
    new TokenizerError(
      `The tokenizer does not cover the text: ${what}, as in "${excerpt(text)}". Use a tokenizer that ` +
        "was made for such text (volary data bpe makes one that covers every text).",
    );
  return (text) => {
    let ids: Uint32Array;
    try {
      ids = tokenizer.encode(text);
    } catch (error) {
      throw error instanceof TokenizerError ? refuse(text, "it has characters without a token") : error;
    }
    if (documents++ < decodedFirst || documents % decodedEvery === 0) {
      const characters = visible(text);
      read += characters;
      lost += Math.max(0, characters - visible(tokenizer.decode(ids)));
      if (lost > mostUnknown * read) {
        throw refuse(
          text,
          `${(100 * lost / read).toFixed(1)} % of the characters do not come back from its ids`,
        );
      }
    }
    if (unknown !== undefined) {
      all += ids.length;
      for (const id of ids) if (id === unknown) strange++;
      if (all >= fewestTokens && strange > mostUnknown * all) {
        throw refuse(
          text,
          `${(100 * strange / all).toFixed(1)} % of the tokens stand for unknown characters`,
        );
      }
    }
    const whole = new Uint32Array(prefix.length + ids.length + (eos === undefined ? 0 : 1));
    whole.set(prefix);
    whole.set(ids, prefix.length);
    if (eos !== undefined) whole[whole.length - 1] = eos;
    return whole;
  };
}
