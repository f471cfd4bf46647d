/**
 * Text to token ids and back.
 *
 * @module
 */

/** Text to ids and back. */
export interface Tokenizer {
  /** Ids are below this. */
  readonly vocabSize: number;
  /** Ids of a text, without special tokens around it. */
  encode(text: string): Uint32Array<ArrayBuffer>;
  /** The text of ids; special tokens leave no trace. Incomplete characters become U+FFFD. */
  decode(ids: ArrayLike<number>): string;
  /** Text of ids that come one by one. */
  stream(): TextStream;
  /** Begins and ends a text, where the tokenizer names them. */
  readonly bos?: number;
  readonly eos?: number;
  /** Stands for characters that the vocabulary does not cover, where the tokenizer has such a token. */
  readonly unknown?: number;
  /** What a prompt begins with: [bos], or nothing where the tokenizer adds none. */
  readonly prefix: readonly number[];
}

/** Text as it comes: a piece is given out once its characters are complete. */
export interface TextStream {
  push(id: number): string;
  /** What was held back, with U+FFFD for an incomplete character. */
  end(): string;
}
