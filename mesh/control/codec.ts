/**
 * Control messages as MessagePack. What arrives is walked before it is unpacked, so that no length in it can ask for
 * more memory than its bytes are worth, and checked against its schema afterwards.
 *
 * @module
 */
import { Packr } from "msgpackr/pack";
import { Unpackr } from "msgpackr/unpack";
import { z } from "zod";
import { MessageError } from "../errors.ts";
import { limits } from "../limits.ts";

// Plain maps and no extensions on the wire: records, references and typed arrays are msgpackr's own dialect.
const packing = { useRecords: false, variableMapSize: true, skipValues: [undefined] };
const packr = new Packr(packing);
// copyBuffers: bytes own their buffer, so that they may be transferred and do not keep the whole message alive.
const unpackr = new Unpackr({
  useRecords: false,
  mapsAsObjects: true,
  copyBuffers: true,
  int64AsType: "number",
});

/** The bytes of a message; properties that are undefined are left out. Throws `MessageError` when it is too large. */
export function encodeMessage(message: unknown): Uint8Array<ArrayBuffer> {
  // The packer writes into a pool of its own, so the result is copied out.
  const bytes = new Uint8Array(packr.pack(message));
  if (bytes.length > limits.messageBytes) {
    throw new MessageError(
      `Cannot send a message of ${bytes.length} bytes: the most is ${limits.messageBytes}`,
    );
  }
  return bytes;
}

/**
 * Reads a message that must match `schema`. Byte strings come out as plain `Uint8Array`s that own their buffers.
 * Throws `MessageError` for more than `maxBytes` bytes, for anything that is not one whole value of plain MessagePack,
 * and for what the schema refuses; the text names the first few faults, never the values.
 */
export function decodeMessage<S extends z.ZodType>(
  schema: S,
  bytes: Uint8Array<ArrayBuffer>,
  maxBytes: number = limits.messageBytes,
): z.output<S> {
  if (bytes.length > maxBytes) {
    throw new MessageError(`A message of ${bytes.length} bytes arrived, the most is ${maxBytes}`);
  }
  new Scan(bytes).message();
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch (error) {
    throw new MessageError(`A message cannot be unpacked: ${error instanceof Error ? error.message : error}`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.slice(0, 3).map((issue) =>
    `${issue.path.join(".") || "message"}: ${issue.message}`
  );
  throw new MessageError(`A message is not valid: ${faults.join("; ").slice(0, 500)}`);
}

const PROTO = "__proto__";

/** Walks MessagePack without making anything of it. */
class Scan {
  private at = 0;
  private values = 0;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  message(): void {
    this.value(0);
    if (this.at !== this.bytes.length) throw new MessageError("A message goes on behind its end");
  }

  /** Moves over `count` bytes and says where they begin. */
  private skip(count: number): number {
    const start = this.at;
    if (count > this.bytes.length - start) throw new MessageError("A message ends in the middle of a value");
    this.at = start + count;
    return start;
  }

  /** A length of 1, 2 or 4 bytes, as types of MessagePack come in threes. */
  private length(width: number): number {
    const at = this.skip(1 << width);
    return width === 0
      ? this.view.getUint8(at)
      : width === 1
      ? this.view.getUint16(at)
      : this.view.getUint32(at);
  }

  private list(count: number, depth: number): void {
    if (depth >= limits.messageDepth) throw new MessageError("A message nests too deeply");
    // Every value takes at least one byte, so a longer list cannot be whole.
    if (count > this.bytes.length - this.at) {
      throw new MessageError("A list in a message is longer than the message");
    }
    for (let i = 0; i < count; i++) this.value(depth + 1);
  }

  private map(count: number, depth: number): void {
    if (depth >= limits.messageDepth) throw new MessageError("A message nests too deeply");
    if (2 * count > this.bytes.length - this.at) {
      throw new MessageError("A map in a message is longer than the message");
    }
    for (let i = 0; i < count; i++) {
      this.key();
      this.value(depth + 1);
    }
  }

  /** Keys are strings, and none of them reaches an object's prototype. */
  private key(): void {
    const type = this.view.getUint8(this.skip(1));
    let length: number;
    if (type >= 0xa0 && type <= 0xbf) length = type & 0x1f;
    else if (type >= 0xd9 && type <= 0xdb) length = this.length(type - 0xd9);
    else throw new MessageError("A message has a key that is no string");
    const start = this.skip(length);
    if (length === PROTO.length && [...PROTO].every((c, i) => this.bytes[start + i] === c.charCodeAt(0))) {
      throw new MessageError(`A message has the key ${PROTO}`);
    }
  }

  private value(depth: number): void {
    if (++this.values > limits.messageValues) throw new MessageError("A message has too many values");
    const type = this.view.getUint8(this.skip(1));
    if (type <= 0x7f || type >= 0xe0) return; // small integers
    if (type <= 0x8f) return this.map(type & 0x0f, depth);
    if (type <= 0x9f) return this.list(type & 0x0f, depth);
    if (type <= 0xbf) return void this.skip(type & 0x1f);
    if (type === 0xc0 || type === 0xc2 || type === 0xc3) return; // nil, false, true
    if (type >= 0xc4 && type <= 0xc6) return void this.skip(this.length(type - 0xc4)); // bytes
    if (type === 0xca) return void this.skip(4); // f32
    if (type === 0xcb) return void this.skip(8); // f64
    if (type >= 0xcc && type <= 0xcf) return void this.skip(1 << (type - 0xcc)); // u8 .. u64
    if (type >= 0xd0 && type <= 0xd3) return void this.skip(1 << (type - 0xd0)); // i8 .. i64
    if (type >= 0xd9 && type <= 0xdb) return void this.skip(this.length(type - 0xd9)); // strings
    if (type === 0xdc || type === 0xdd) return this.list(this.length(type - 0xdb), depth);
    if (type === 0xde || type === 0xdf) return this.map(this.length(type - 0xdd), depth);
    throw new MessageError(`A message has a value of the type 0x${type.toString(16)}, which is not in use`);
  }
}
