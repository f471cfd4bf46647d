/**
 * What can be wrong with data that is being prepared, by stable names. Each message is one paragraph: what was done, what
 * is wrong, what to do.
 *
 * @module
 */
import { ModelError } from "../model/errors.ts";

/** Something about the data, its files or its configuration that the user can act on; `name` is stable. */
export class DataError extends ModelError {
  override readonly name: string = "DataError";
}

/** A file that is not what it should be: a broken line, a damaged table, text that is not UTF-8. */
export class SourceError extends DataError {
  override readonly name = "SourceError";
}

/** Prepared shards that are damaged, incomplete, or of another tokenizer. */
export class ShardsError extends DataError {
  override readonly name = "ShardsError";
}
