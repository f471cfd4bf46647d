/**
 * A document of a file, and where a reading of it stands.
 *
 * @module
 */

/** Where a reading stands: bytes into a text, rows into a table; and the line, for messages. */
export interface Cursor {
  readonly at: number;
  readonly line: number;
}

/** A document and where it was. `text` is undefined for a broken line that is to be dropped. */
export interface SourceDocument {
  readonly text: string | undefined;
  /** `file:line` (or row), for people. */
  readonly place: string;
  /** Where the next one begins. */
  readonly next: Cursor;
}
