/**
 * Event files that TensorBoard reads: records of serialized Event messages with one scalar each.
 *
 * A record is length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data, all little-endian (TensorFlow,
 * "TFRecord and tf.train.Example", and tensorflow/core/lib/io/record_writer.cc). The message is Event {wall_time = 1,
 * step = 2, file_version = 3, summary = 5 {value = 1 {tag = 1, simple_value = 2}}} (tensorflow/core/util/event.proto,
 * summary.proto) in protocol buffers' wire format.
 *
 * @module
 */
import { joinPath } from "../../model/files.ts";
import type { Storage } from "../../mesh/runtime.ts";

/** Reversed polynomial of CRC-32C (Castagnoli; RFC 3720, appendix B.4). */
const castagnoli = 0x82f63b78;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ castagnoli : crc >>> 1;
  return crc;
});

/** CRC-32C of bytes. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord's mask: a sum over data that holds sums would be weak. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** One record with its sums. */
function frameRecord(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(data.length + 16), view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, masked(data), true);
  return record;
}

/** An Event with a scalar for each tag; `seconds` since 1970. */
function scalarEvent(
  seconds: number,
  step: number,
  scalars: readonly (readonly [tag: string, value: number])[],
): Uint8Array {
  const values = scalars.flatMap(([tag, value]) => {
    const name = new TextEncoder().encode(tag);
    return field(1, [...field(1, name), (2 << 3) | 5, ...float32(value)]);
  });
  return Uint8Array.from([(1 << 3) | 1, ...float64(seconds), 2 << 3, ...varint(step), ...field(5, values)]);
}

/** The first Event of a file. */
function versionEvent(seconds: number): Uint8Array {
  return Uint8Array.from([
    (1 << 3) | 1,
    ...float64(seconds),
    ...field(3, new TextEncoder().encode("brain.Event:2")),
  ]);
}

/** A field of bytes: key, length, content. */
function field(number: number, bytes: Iterable<number>): number[] {
  const content = [...bytes];
  return [(number << 3) | 2, ...varint(content.length), ...content];
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 | 128);
  return [...bytes, value];
}

function float64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return bytes;
}

function float32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return bytes;
}

/** An event file that grows. Each run, and each time that it goes on, has a file of its own, as TensorBoard expects. */
export class EventFile {
  #at = 0;
  #writes: Promise<void> = Promise.resolve();
  readonly #path: string;
  #begun = false;

  /** @param seconds since 1970, now: it is part of the file's name, by which TensorBoard sorts. */
  constructor(
    private readonly storage: Storage,
    private readonly folder: string,
    private readonly seconds: number,
  ) {
    this.#path = joinPath(folder, `events.out.tfevents.${Math.floor(seconds)}.volary`);
  }

  /** Adds scalars of a step, in order of the calls; what is not finite is left out. */
  add(
    seconds: number,
    step: number,
    scalars: readonly (readonly [tag: string, value: number | null])[],
  ): void {
    const finite = scalars.filter((scalar): scalar is readonly [string, number] =>
      scalar[1] !== null && Number.isFinite(scalar[1])
    );
    if (finite.length === 0) return;
    if (!this.#begun) {
      this.#begun = true;
      this.#writes = this.storage.makeFolder(this.folder);
      this.#append(versionEvent(this.seconds));
    }
    this.#append(scalarEvent(seconds, step, finite));
  }

  /** Resolves once everything is written. */
  settled(): Promise<void> {
    return this.#writes;
  }

  #append(event: Uint8Array): void {
    const bytes = frameRecord(event), at = this.#at;
    this.#at += bytes.length;
    this.#writes = this.#writes.then(() => this.storage.write(this.#path, at, bytes));
    this.#writes.catch(() => {}); // `settled` tells
  }
}
