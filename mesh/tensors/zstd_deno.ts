/**
 * zstd as Deno has it built in. For Deno only.
 *
 * @module
 */
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Zstd } from "./tensor_codec.ts";

/** The quickest level: of tensors only the exponents compress, and higher levels find no more in them. */
const params = { [constants.ZSTD_c_compressionLevel]: 1 };

/** The platform's zstd. */
export const zstd: Zstd = {
  compress: (bytes) => own(zstdCompressSync(bytes, { params })),
  decompress: (bytes, most) => own(zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, most) })),
};

/** The bytes in a buffer of their own, which may be handed to another thread. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.byteLength === bytes.buffer.byteLength
    ? new Uint8Array(bytes.buffer as ArrayBuffer)
    : new Uint8Array(bytes);
}
