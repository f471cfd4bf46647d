/** Safetensors: round trips, and files that lie. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { decodeWords, encodeWords, firstNonFinite } from "../../model/dtypes.ts";
import { SafetensorsError } from "../../model/errors.ts";
import { openSafetensors, readStored } from "../../model/checkpoint/safetensors.ts";
import { SafetensorsWriter, type TensorLayout } from "../../model/checkpoint/safetensors_writer.ts";
import { MemoryStorage } from "../memory_storage.ts";

/** A file with any header over `data` bytes. */
function forged(header: unknown, data: number, claimed?: bigint): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const layouts: TensorLayout[] = [
  { name: "b", dtype: "F32", shape: [3, 5] },
  { name: "half", dtype: "F16", shape: [7] },
  { name: "a", dtype: "BF16", shape: [2, 2] },
  { name: "none", dtype: "F32", shape: [0, 4] },
];

Deno.test("tensors come back, in pieces and any order, and the bytes do not depend on the order", async () => {
  const b = Float32Array.from({ length: 15 }, (_, i) => Math.sin(i) * 1e-3);
  const half = Float32Array.of(0, -0, 1.5, 65504, -(2 ** -24), 1 / 3, Infinity);
  const a = Float32Array.of(1, -2.5, 3.3895e38, 1 / 3);
  const write = async (reverse: boolean) => {
    const files = new MemoryStorage();
    const writer = await SafetensorsWriter.create(files, "x/model.safetensors", layouts, { step: "7" });
    const jobs = [
      () => writer.write("b", 0, b.slice(0, 4)),
      () => writer.write("b", 4, b.slice(4, 5)),
      () => writer.write("b", 9, b.slice(9)),
      () => writer.write("b", 5, b.slice(5, 9)),
      () => writer.write("half", 0, half),
      () => writer.write("a", 2, a.slice(2)),
      () => writer.write("a", 0, a.slice(0, 2)),
    ];
    for (const job of reverse ? jobs.reverse() : jobs) await job();
    await writer.finish();
    return files;
  };
  const files = await write(false);
  assertEquals((await write(true)).files, files.files);
  const file = await openSafetensors(files, "x/model.safetensors");
  assertEquals([...file.tensors.keys()], ["b", "half", "a", "none"]);
  assertEquals(file.metadata.step, "7");
  const get = (name: string, start: number, length: number) =>
    readStored(files, file, file.tensors.get(name)!, start, length);
  assertEquals(await get("b", 0, 15), b);
  assertEquals(await get("b", 6, 3), b.slice(6, 9));
  assertEquals(await get("half", 0, 7), Float32Array.from(half, Math.f16round));
  assertEquals(await get("a", 1, 2), Float32Array.of(-2.5, 255 * 2 ** 120));
  assertEquals(await get("none", 0, 0), new Float32Array(0));
  await assertRejects(() => get("b", 10, 6), RangeError);
});

Deno.test("bf16 rounds to nearest, ties to even, and keeps what is not finite", () => {
  const bits = (word: number) => new Uint32Array(Float32Array.of(word).buffer)[0];
  const fromBits = (...words: number[]) => new Float32Array(Uint32Array.from(words).buffer);
  const words = fromBits(0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800000, 0xff800001);
  const back = decodeWords("BF16", encodeWords("BF16", words));
  assertEquals([...back.subarray(0, 4)].map(bits), [0x3f800000, 0x3f820000, 0x3f810000, 0x7f800000]);
  assertEquals(back[4], Infinity);
  assert(Number.isNaN(back[5]));
  assertEquals([firstNonFinite(words), firstNonFinite(back), firstNonFinite(fromBits(0, 0x7f7fffff))], [
    4,
    3,
    -1,
  ]);
  // Every bf16 value survives the way to f32 and back.
  const all = Uint16Array.from({ length: 0xff00 }, (_, i) => i).filter((b) => (b & 0x7f80) !== 0x7f80);
  assertEquals(
    new Uint16Array(encodeWords("BF16", decodeWords("BF16", new Uint8Array(all.buffer))).buffer),
    all,
  );
});

Deno.test("a file appears whole or not at all, and every element once", async () => {
  const files = new MemoryStorage();
  const writer = await SafetensorsWriter.create(files, "m", [layouts[0]]);
  await writer.write("b", 0, new Float32Array(10));
  for (const [start, length] of [[9, 2], [0, 1], [3, 20]]) {
    await assertRejects(() => writer.write("b", start, new Float32Array(length)));
  }
  await assertRejects(() => writer.write("c", 0, new Float32Array(1)), Error, "has no tensor c");
  await assertRejects(() => writer.finish(), SafetensorsError, "parts of tensor b were never written");
  assertEquals([...files.files.keys()], ["m.partial"]);
});

Deno.test("files that lie are refused, each with its reason, and nothing large is read", async () => {
  const f32 = (shape: number[], from: number, to: number) => ({
    dtype: "F32",
    shape,
    data_offsets: [from, to],
  });
  const cases: [Uint8Array<ArrayBuffer>, string][] = [
    [new Uint8Array(4), "too few for a header"],
    [forged({}, 0, 1n << 30n), "claims 1073741824 bytes; at most 100000000"],
    [forged({}, 0, (1n << 64n) - 1n), "claims 18446744073709551615 bytes"],
    [forged({}, 0, 5000n), "but the file has 10"],
    [forged("{nonsense", 0), "not JSON"],
    [forged("[1, 2]", 0), "not an object"],
    [forged({ a: f32([4], 0, 16) }, 8), "claims bytes 0 to 16, but the file holds 8"],
    [forged({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), "a and b overlap"],
    [forged({ a: f32([2], 0, 8), b: f32([2], 12, 20) }, 20), "4 bytes before tensor b"],
    [forged({ a: f32([2], 0, 8) }, 12), "4 bytes at its end"],
    [forged({ a: f32([3], 0, 8) }, 8), "[3] needs 12 bytes"],
    [forged({ a: f32([2 ** 40, 2 ** 40], 0, 8) }, 8), "needs"],
    [forged({ a: f32([-2], 0, 8) }, 8), "no proper shape"],
    [forged({ a: f32([2], 8, 0) }, 8), "claims bytes 8 to 0"],
    [forged({ a: { dtype: "F32", shape: [2], data_offsets: [0.5, 8] } }, 8), "no proper shape"],
    [forged({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, 8), 'type "I64"; F32, F16 and BF16'],
    [forged({ a: null }, 0), "type (none)"],
    [forged({ __metadata__: { step: 3 } }, 0), "__metadata__"],
  ];
  for (const [bytes, part] of cases) {
    const files = new MemoryStorage();
    files.files.set("bad.safetensors", bytes);
    const error = await assertRejects(
      () => openSafetensors(files, "bad.safetensors"),
      SafetensorsError,
      part,
    );
    assertStringIncludes(error.message, "bad.safetensors");
    assert(!error.message.includes("\n"));
  }
  await assertRejects(() => openSafetensors(new MemoryStorage(), "none"), SafetensorsError, "no such file");
});

Deno.test("a file that shrinks after its header was read is noticed", async () => {
  const files = new MemoryStorage();
  files.files.set("m", forged({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8] } }, 8));
  const file = await openSafetensors(files, "m");
  files.files.set("m", files.files.get("m")!.slice(0, -4));
  await assertRejects(
    () => readStored(files, file, file.tensors.get("a")!, 0, 2),
    SafetensorsError,
    "shorter",
  );
});

Deno.test("names of tensors cannot reach into the program", async () => {
  const files = new MemoryStorage();
  files.files.set("m", forged('{"__proto__": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', 4));
  const file = await openSafetensors(files, "m");
  assertEquals([...file.tensors.keys()], ["__proto__"]);
});
