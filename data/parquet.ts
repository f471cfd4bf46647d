/**
 * Documents from a column of a Parquet file, one group of rows at a time.
 *
 * @module
 */
import { type FileMetaData, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import type { FileReader } from "../model/files.ts";
import type { Cursor, SourceDocument } from "./source_document.ts";
import { SourceError } from "./errors.ts";
import { limits } from "./limits.ts";

/** Rows of text of one column. Nulls are left out. @throws {SourceError} if the file is damaged or has no such column. */
export async function* parquetDocuments(
  files: FileReader,
  path: string,
  column: string,
  from: Cursor,
): AsyncGenerator<SourceDocument> {
  const size = await files.size(path);
  if (size === undefined) throw new SourceError(`There is no file ${path} any more.`);
  const file = {
    byteLength: size,
    slice: async (start: number, end: number = size) => {
      if (start < 0 || end > size || start > end) throw new RangeError(`bytes ${start} to ${end} of ${size}`);
      return (await files.read(path, start, end)).buffer;
    },
  };
  const damaged = (error: unknown) =>
    new SourceError(
      `${path} cannot be read as Parquet: ${error instanceof Error ? error.message : error}. The file ` +
        "is damaged or was not fetched whole; fetch it again, or leave it out.",
    );
  let metadata: FileMetaData;
  try {
    metadata = await parquetMetadataAsync(file);
  } catch (error) {
    throw damaged(error);
  }
  const names = metadata.schema.slice(1).filter((element) => !element.num_children).map(({ name }) => name);
  if (!names.includes(column)) {
    throw new SourceError(
      `${path} has no column "${column}"; it has ${names.join(", ")}. text = "..." in its [[domain]] ` +
        "names the column.",
    );
  }
  let rowStart = 0;
  for (const [g, group] of metadata.row_groups.entries()) {
    const rowEnd = rowStart + Number(group.num_rows);
    if (rowEnd > from.at) {
      const bytes = Number(
        group.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === column)?.meta_data
          ?.total_uncompressed_size ?? 0n,
      );
      if (bytes > limits.rowGroupBytes) {
        throw new SourceError(
          `${path} has ${bytes} bytes of "${column}" in one group of rows (number ${g}); at most ${limits.rowGroupBytes} are ` +
            `decoded at once. Write the file again with smaller row groups.`,
        );
      }
      let rows: Record<string, unknown>[];
      try {
        const begin = Math.max(rowStart, from.at);
        rows = await parquetReadObjects({
          file,
          metadata,
          columns: [column],
          rowStart: begin,
          rowEnd,
          compressors,
        });
        if (rows.length !== rowEnd - begin) {
          throw new Error(`${rows.length} rows instead of ${rowEnd - begin} in group ${g}`);
        }
        rowStart = begin;
      } catch (error) {
        throw damaged(error);
      }
      for (const [i, row] of rows.entries()) {
        const value = row[column], at = rowStart + i;
        if (value === null || value === undefined) continue;
        if (typeof value !== "string") {
          throw new SourceError(`${path}: the column "${column}" holds ${typeof value}s, not text.`);
        }
        if (value.length > limits.documentBytes) {
          throw new SourceError(
            `${path}: row ${at} is a document of more than ${limits.documentBytes >> 20} MiB, more than ` +
              "is held at once.",
          );
        }
        yield { text: value, place: `${path} row ${at}`, next: { at: at + 1, line: at + 2 } };
      }
    }
    rowStart = rowEnd;
  }
}
