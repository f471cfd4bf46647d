/** TensorBoard's event files, read back by the format's own rules. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { crc32c, EventFile } from "../../coordinator/report/event_file.ts";
import { MemoryStorage } from "../memory_storage.ts";

Deno.test("CRC-32C gives the answers of RFC 3720, appendix B.4", () => {
  assertEquals(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assertEquals(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assertEquals(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
});

/** Takes a TFRecord file apart; throws where a sum is wrong. */
function* records(file: Uint8Array): Generator<Uint8Array> {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const sound = (from: number, to: number) => {
    const crc = crc32c(file.subarray(from, to));
    const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
    assertEquals(view.getUint32(to, true), masked);
  };
  for (let at = 0; at < file.length;) {
    const length = Number(view.getBigUint64(at, true));
    sound(at, at + 8);
    sound(at + 12, at + 12 + length);
    yield file.subarray(at + 12, at + 12 + length);
    at += 16 + length;
  }
}

type Field = number | Uint8Array;
/** A message in protocol buffers' wire format, as [number, value] pairs. */
function fields(message: Uint8Array): [number, Field][] {
  const view = new DataView(message.buffer, message.byteOffset, message.length),
    found: [number, Field][] = [];
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1;
    for (;; scale *= 128) {
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint(), number = key >> 3;
    switch (key & 7) {
      case 0:
        found.push([number, varint()]);
        break;
      case 1:
        found.push([number, view.getFloat64(at, true)]);
        at += 8;
        break;
      case 2: {
        const length = varint();
        found.push([number, message.subarray(at, at += length)]);
        break;
      }
      case 5:
        found.push([number, view.getFloat32(at, true)]);
        at += 4;
        break;
      default:
        throw new Error(`wire type ${key & 7}`);
    }
  }
  return found;
}

Deno.test("an event file holds its version, then scalars by step", async () => {
  const storage = new MemoryStorage();
  const file = new EventFile(storage, "/runs/x/tensorboard", 1_700_000_000.25);
  file.add(1_700_000_001.5, 300, [["train/loss", 2.5], ["lost", null], ["also lost", NaN]]);
  file.add(1_700_000_002, 2 ** 33, [["a", 1], ["b", -3]]);
  await file.settled();
  const bytes = storage.files.get("/runs/x/tensorboard/events.out.tfevents.1700000000.volary")!;
  const [version, one, two] = [...records(bytes)].map(fields);
  assertEquals(new TextDecoder().decode(version.find(([n]) => n === 3)![1] as Uint8Array), "brain.Event:2");
  assertAlmostEquals(one[0][1] as number, 1_700_000_001.5);
  assertEquals(one[1], [2, 300]);
  const scalars = (event: [number, Field][]) =>
    fields(event.find(([n]) => n === 5)![1] as Uint8Array).map(([, value]) => {
      const [[, tag], [, scalar]] = fields(value as Uint8Array);
      return [new TextDecoder().decode(tag as Uint8Array), scalar];
    });
  assertEquals(scalars(one), [["train/loss", 2.5]]);
  assertEquals(two[1], [2, 2 ** 33]);
  assertEquals(scalars(two), [["a", 1], ["b", -3]]);
});

Deno.test("nothing finite, nothing written", async () => {
  const storage = new MemoryStorage();
  const file = new EventFile(storage, "/t", 1);
  file.add(1, 1, [["a", NaN]]);
  await file.settled();
  assert(storage.files.size === 0);
});
