/**
 * What is signed: a list of values in one form only, each behind its length, so that no two lists have the same bytes.
 * The first value names the purpose, so that a signature for one serves no other.
 *
 * @module
 */

/** Text as UTF-8, numbers as f64, all little-endian behind a u32 length. */
export function statement(
  purpose: string,
  ...values: readonly (string | number | Uint8Array)[]
): Uint8Array<ArrayBuffer> {
  const parts = [purpose, ...values].map((value) => {
    if (typeof value === "string") return new TextEncoder().encode(value);
    return typeof value === "number" ? new Uint8Array(Float64Array.of(value).buffer) : value;
  });
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}
