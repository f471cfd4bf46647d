/**
 * Bounds of what is read and held, with their reasons.
 *
 * @module
 */

/** See each name. */
export const limits = {
  /** Bytes read from a text file at a time. */
  readBytes: 1 << 20,
  /** Bytes of one document: it is held whole, several times over, while it is checked and turned into tokens. */
  documentBytes: 16 << 20,
  /** Bytes of one group of rows of a Parquet file, which is decoded at once. */
  rowGroupBytes: 1 << 30,
  /** Documents of one preparation: memory takes about 40 bytes for each. */
  documents: 100_000_000,
  /** Keys sorted at a time when duplicates are looked for: 8 bytes each. */
  sortedKeys: 1 << 24,
  /** Input bytes between two points from which a killed preparation goes on. */
  checkpointBytes: 64 << 20,
  /** Folders within folders; a chain of links that leads back into itself ends here. */
  folderDepth: 32,
  /** Entries of a list of words. */
  listEntries: 1_000_000,
  /** Domains of a mixture. */
  domains: 256,
  /** Characters of an excerpt of what was dropped: a line of a terminal. */
  excerpt: 120,
  /** Samples kept of what was dropped for one reason: enough to see what it takes. */
  samples: 5,
} as const;
