/**
 * Writes safetensors files piece by piece, in any order, under a temporary name until every element has arrived.
 *
 * @module
 */
import { bytesOf, type DType, encodeWords } from "../dtypes.ts";
import { SafetensorsError } from "../errors.ts";
import { type FileStore, folderOf } from "../files.ts";
import { largestHeader } from "./safetensors.ts";
import { elements } from "../tensors.ts";

/** A tensor to be written. */
export interface TensorLayout {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Spans of elements that have arrived, as sorted and merged [from, to) pairs. */
class Coverage {
  readonly #spans: [number, number][] = [];

  /** False where part of the span was there before. */
  add(from: number, to: number): boolean {
    let i = 0;
    while (i < this.#spans.length && this.#spans[i][1] < from) i++;
    const next = this.#spans[i];
    if (next === undefined || next[0] > to) {
      this.#spans.splice(i, 0, [from, to]);
      return true;
    }
    if (next[1] === from) { // grows to the right, perhaps up to its neighbour
      const after = this.#spans[i + 1];
      if (after !== undefined && after[0] < to) return false;
      next[1] = to;
      if (after !== undefined && after[0] === to) {
        next[1] = after[1];
        this.#spans.splice(i + 1, 1);
      }
      return true;
    }
    if (next[0] !== to) return false;
    next[0] = from;
    return true;
  }

  covers(length: number): boolean {
    return length === 0 ||
      (this.#spans.length === 1 && this.#spans[0][0] === 0 && this.#spans[0][1] === length);
  }
}

/**
 * A file on its way. The same tensors in the same order give the same bytes, whatever order their pieces come in.
 *
 * @example
 * ```ts ignore
 * const writer = await SafetensorsWriter.create(files, "model.safetensors", layouts);
 * await writer.write("lm_head.weight", 0, words);
 * await writer.finish();
 * ```
 */
export class SafetensorsWriter {
  readonly #files: FileStore;
  readonly #path: string;
  readonly #partial: string;
  readonly #places: Map<string, { layout: TensorLayout; start: number; coverage: Coverage }>;

  private constructor(files: FileStore, path: string) {
    this.#files = files;
    this.#path = path;
    this.#partial = path + ".partial";
    this.#places = new Map();
  }

  /** Writes the header to PATH.partial; a leftover of that name is removed. Metadata is written in the given order. */
  static async create(
    files: FileStore,
    path: string,
    tensors: readonly TensorLayout[],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<SafetensorsWriter> {
    const writer = new SafetensorsWriter(files, path);
    const header: Record<string, unknown> = { __metadata__: { format: "pt", ...metadata } };
    let at = 0;
    for (const { name, dtype, shape } of tensors) {
      if (Object.hasOwn(header, name)) throw new Error(`Tensor ${name} is listed twice for ${path}`);
      const end = at + elements(shape) * bytesOf[dtype];
      header[name] = { dtype, shape, data_offsets: [at, end] };
      at = end;
    }
    const json = JSON.stringify(header);
    const text = new TextEncoder().encode(json + " ".repeat(-new TextEncoder().encode(json).length & 7));
    if (text.length > largestHeader) {
      throw new SafetensorsError(
        `The header of ${path} would have ${text.length} bytes: split it into shards.`,
      );
    }
    const bytes = new Uint8Array(8 + text.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    let start = bytes.length;
    for (const layout of tensors) {
      writer.#places.set(layout.name, { layout, start, coverage: new Coverage() });
      start += elements(layout.shape) * bytesOf[layout.dtype];
    }
    if (await files.size(writer.#partial) !== undefined) await files.remove(writer.#partial);
    await files.write(writer.#partial, 0, bytes);
    return writer;
  }

  /** Writes elements `start`.. of a tensor, rounded to its format. Each element is written once. */
  async write(name: string, start: number, words: Float32Array<ArrayBuffer>): Promise<void> {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error(`${this.#path} has no tensor ${name}`);
    const { layout, coverage } = place, length = elements(layout.shape), to = start + words.length;
    if (start < 0 || to > length) {
      throw new RangeError(`Elements ${start}..${to} lie outside ${name} [${layout.shape}]`);
    }
    if (words.length === 0) return;
    if (!coverage.add(start, to)) throw new Error(`Elements ${start}..${to} of ${name} were written twice`);
    const position = place.start + start * bytesOf[layout.dtype];
    await this.#files.write(this.#partial, position, encodeWords(layout.dtype, words));
  }

  /** Syncs the file and gives it its name. @throws {SafetensorsError} naming a tensor of which elements never came. */
  async finish(): Promise<void> {
    for (const { layout, coverage } of this.#places.values()) {
      if (!coverage.covers(elements(layout.shape))) {
        throw new SafetensorsError(
          `${this.#path} cannot be finished: parts of tensor ${layout.name} were never written.`,
        );
      }
    }
    await this.#files.sync(this.#partial);
    await this.#files.rename(this.#partial, this.#path);
    await this.#files.sync(folderOf(this.#path));
  }
}
