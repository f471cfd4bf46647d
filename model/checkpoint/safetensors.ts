/**
 * Safetensors files, read with distrust: u64 length of a JSON header, the header {name: {dtype, shape, data_offsets}},
 * then the data without holes. Format: https://github.com/huggingface/safetensors (README, "Format").
 *
 * @module
 */
import { bytesOf, decodeWords, type DType, isDType } from "../dtypes.ts";
import { SafetensorsError } from "../errors.ts";
import type { FileReader } from "../files.ts";
import { elements } from "../tensors.ts";

/** Largest header, as in the format's own implementation: about a million tensors. */
export const largestHeader = 100_000_000;

/** One tensor of a file. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where its bytes begin and end in the file. */
  readonly start: number;
  readonly end: number;
}

/** A file whose header was checked. */
export interface SafetensorsFile {
  readonly path: string;
  /** Free text pairs under "__metadata__". */
  readonly metadata: Readonly<Record<string, string>>;
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/**
 * Reads and checks a file's header; of the data only the length is looked at.
 *
 * @throws {SafetensorsError} if the file is missing, truncated, has a header beyond 100 MB, overlapping or missing
 * bytes, offsets outside the file, sizes that contradict shapes, or a format other than F32, F16 and BF16.
 */
export async function openSafetensors(files: FileReader, path: string): Promise<SafetensorsFile> {
  const fail = (what: string) => new SafetensorsError(`${path} cannot be read as safetensors: ${what}`);
  const size = await files.size(path);
  if (size === undefined) throw fail("there is no such file.");
  if (size < 10) {
    throw fail(`it has ${size} bytes, too few for a header. It was probably cut off; fetch it again.`);
  }
  const length = new DataView((await files.read(path, 0, 8)).buffer).getBigUint64(0, true);
  if (length > BigInt(largestHeader)) {
    throw fail(
      `its header claims ${length} bytes; at most ${largestHeader} are read. It is damaged or another format.`,
    );
  }
  const dataStart = 8 + Number(length);
  if (dataStart > size) {
    throw fail(
      `its header claims ${length} bytes, but the file has ${size}. It was cut off; fetch it again.`,
    );
  }
  const header = parseHeader(await files.read(path, 8, dataStart), fail);
  const metadata = readMetadata(header, fail);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") tensors.set(name, readEntry(name, entry, dataStart, size, fail));
  }
  refuseHoles([...tensors.values()], dataStart, size, fail);
  return { path, metadata, tensors };
}

/** Elements `start`.. of a tensor as f32, exactly. @throws {SafetensorsError} if the file changed its length meanwhile. */
export async function readStored(
  files: FileReader,
  file: SafetensorsFile,
  tensor: StoredTensor,
  start: number,
  length: number,
): Promise<Float32Array<ArrayBuffer>> {
  const size = bytesOf[tensor.dtype], from = tensor.start + start * size, to = from + length * size;
  if (start < 0 || length < 0 || to > tensor.end) {
    throw new RangeError(`Elements ${start}..${start + length} lie outside ${tensor.name} [${tensor.shape}]`);
  }
  if (length === 0) return new Float32Array(0);
  const shorter = () =>
    new SafetensorsError(
      `${file.path} became shorter while ${tensor.name} was read from it: something else writes to it. Read it again.`,
    );
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await files.read(file.path, from, to);
  } catch (error) {
    throw error instanceof RangeError ? shorter() : error; // a storage's word for a range beyond the end
  }
  if (bytes.byteLength !== to - from) throw shorter();
  return decodeWords(tensor.dtype, bytes);
}

type Fail = (what: string) => SafetensorsError;

function parseHeader(bytes: Uint8Array<ArrayBuffer>, fail: Fail): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw fail("its header is not JSON. It is damaged or another format.");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw fail("its header is not an object.");
  }
  return header as Record<string, unknown>;
}

function readMetadata(header: Record<string, unknown>, fail: Fail): Record<string, string> {
  if (!Object.hasOwn(header, "__metadata__")) return {};
  const value = header.__metadata__;
  const plain = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!plain || Object.values(value).some((text) => typeof text !== "string")) {
    throw fail("its __metadata__ is not a list of texts.");
  }
  return value as Record<string, string>;
}

function readEntry(name: string, entry: unknown, dataStart: number, size: number, fail: Fail): StoredTensor {
  const whole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const list = (value: unknown): value is number[] => Array.isArray(value) && value.every(whole);
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  if (!isDType(dtype)) {
    throw fail(
      `tensor ${name} has the type ${JSON.stringify(dtype) ?? "(none)"}; F32, F16 and BF16 are read.`,
    );
  }
  if (!list(shape) || !list(offsets) || offsets.length !== 2) {
    throw fail(`tensor ${name} has no proper shape and data_offsets.`);
  }
  const [from, to] = offsets, room = size - dataStart;
  if (from > to || to > room) {
    throw fail(
      `tensor ${name} claims bytes ${from} to ${to}, but the file holds ${room} bytes of data. It was cut off or is ` +
        `damaged; fetch it again.`,
    );
  }
  const expected = elements(shape) * bytesOf[dtype];
  if (expected !== to - from) {
    throw fail(
      `tensor ${name} ${dtype} [${shape}] needs ${expected} bytes, but its data_offsets span ${to - from}.`,
    );
  }
  return { name, dtype, shape, start: dataStart + from, end: dataStart + to };
}

function refuseHoles(tensors: StoredTensor[], dataStart: number, size: number, fail: Fail): void {
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = dataStart, previous = "the header";
  for (const tensor of tensors) {
    if (tensor.start < at) throw fail(`tensors ${previous} and ${tensor.name} overlap.`);
    if (tensor.start > at) {
      throw fail(`${tensor.start - at} bytes before tensor ${tensor.name} belong to none.`);
    }
    at = tensor.end;
    previous = tensor.name;
  }
  if (at !== size) throw fail(`${size - at} bytes at its end belong to no tensor.`);
}
