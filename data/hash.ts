/**
 * Checksums: xxHash64 (Collet, https://xxhash.com), as 16 hexadecimal digits.
 *
 * @module
 */
import xxhash from "xxhash-wasm";
import type { FileReader } from "../model/files.ts";

const api = await xxhash();

/** A checksum of bytes that come in pieces. */
class Checksum {
  readonly #state = api.create64();

  update(bytes: Uint8Array): void {
    this.#state.update(bytes);
  }

  digest(): string {
    return this.#state.digest().toString(16).padStart(16, "0");
  }
}

/** xxHash64 of bytes. */
export function hash64(bytes: Uint8Array): bigint {
  return api.h64Raw(bytes);
}

/** Checksum of bytes or of a text's UTF-8. */
export function checksum(data: Uint8Array | string): string {
  const sum = new Checksum();
  sum.update(typeof data === "string" ? new TextEncoder().encode(data) : data);
  return sum.digest();
}

/** Bytes read at a time. */
const pieceBytes = 4 << 20;

/** Checksum of a file's first `size` bytes; `pause` is called after each piece. */
export async function checksumOfFile(
  files: FileReader,
  path: string,
  size: number,
  pause: () => Promise<void>,
): Promise<string> {
  const sum = new Checksum();
  for (let at = 0; at < size; at += pieceBytes) {
    sum.update(await files.read(path, at, Math.min(size, at + pieceBytes)));
    await pause();
  }
  return sum.digest();
}
